# For Mix: compiles the native part, src/ and lib/. rebar3 does not read this file, and needs no Elixir.
# Version, environment and the rest are those of src/erlang_python.app.src.

defmodule Mix.Tasks.Compile.ErlangPythonNative do
  @moduledoc "Leaves the native libraries in priv/, see docs/deployment.md."
  use Mix.Task.Compiler

  @root __DIR__
  # The first file is for Elixir up to 1.18, the second one for 1.20.
  @compiled "lib/erlang_python/.mix/compile.{fetch,elixir_scm}"

  @impl true
  def run(_args) do
    case native([], into: IO.stream(:stdio, :line), stderr_to_stdout: true, env: variables()) do
      {_, 0} ->
        {:ok, []}

      {_, _} ->
        Mix.raise("erlang_python has no native library; the reason is above")
    end
  end

  @doc """
  Has Mix compile a fetched dependency again if a library that the environment names is missing.

  Called while Mix loads this file for the project that depends on it. Without the files that are removed, Mix takes the
  dependency for one that is fetched and not compiled.
  """
  def recompile_if_missing do
    compiled = Enum.flat_map(build_paths(), &Path.wildcard(Path.join(&1, @compiled), match_dot: true))

    if compiled != [] and Enum.any?(~w(PYTHON PORTABLE), &(System.get_env(&1, "") != "")) do
      {names, 0} = native(["--wanted"], [])
      missing = for name <- String.split(names), not File.exists?(Path.join(@root, name)), do: name
      if missing != [], do: Enum.each(compiled, &File.rm!/1)
    end

    :ok
  end

  # The build directories of the project that has fetched this dependency, which Mix does not tell here: beside
  # deps/, or where the variables of Mix say.
  defp build_paths do
    roots = [Path.expand("../../_build", @root) | List.wrap(System.get_env("MIX_BUILD_ROOT"))]
    Enum.map(roots, &Path.join(&1, "*")) ++ List.wrap(System.get_env("MIX_BUILD_PATH"))
  end

  # As rebar3 does, says whether the project itself is compiled: one library is enough then.
  defp variables do
    own? = Mix.Project.deps_path() == Path.join(@root, "deps")
    [{"REBAR_ROOT_DIR", if(own?, do: @root)}]
  end

  defp native(arguments, options) do
    escript = System.find_executable("escript") || Mix.raise("escript of Erlang/OTP is not on PATH")
    System.cmd(escript, ["scripts/build_native" | arguments], [cd: @root] ++ options)
  end
end

defmodule Mix.Tasks.Compile.ErlangPythonDocs do
  @moduledoc "Leaves the texts of `h :py.call`, see scripts/doc_chunks."
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    escript = System.find_executable("escript") || Mix.raise("escript of Erlang/OTP is not on PATH")
    script = Path.join(__DIR__, "scripts/doc_chunks")

    {_, 0} =
      System.cmd(escript, [script, Mix.Project.app_path()],
        into: IO.stream(:stdio, :line),
        stderr_to_stdout: true
      )

    {:ok, []}
  end
end

defmodule ErlangPython.MixProject do
  use Mix.Project

  @source Path.join(__DIR__, "src/erlang_python.app.src")
  {:ok, [{:application, :erlang_python, keys}]} = :file.consult(@source)
  @keys keys

  def project do
    :ok = Mix.Tasks.Compile.ErlangPythonNative.recompile_if_missing()

    [
      app: :erlang_python,
      version: List.to_string(@keys[:vsn]),
      description: List.to_string(@keys[:description]),
      elixir: "~> 1.14",
      compilers: [:erlang_python_native | Mix.compilers()] ++ [:erlang_python_docs],
      erlc_options: [:debug_info],
      # The directories of rebar3 are beside it.
      build_path: "_build/mix",
      test_paths: ["test/elixir"],
      deps: []
    ]
  end

  def application do
    Keyword.take(@keys, [:registered, :mod, :env])
  end
end
