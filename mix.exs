# For Mix: compiles the native part, src/ and lib/. rebar3 does not read this file, and needs no Elixir.
# Version, environment and the rest are those of src/erlang_python.app.src.

defmodule Mix.Tasks.Compile.ErlangPythonNative do
  @moduledoc "Leaves the native libraries in priv/, see docs/deployment.md."
  use Mix.Task.Compiler

  @root __DIR__
  # Mix writes this file into a dependency that it has fetched, and compiles one whose build is older.
  @fetched Path.join(@root, ".fetch")

  @impl true
  def run(_args) do
    case native([], into: IO.stream(:stdio, :line), stderr_to_stdout: true, env: variables()) do
      {_, 0} ->
        unmark()
        {:ok, []}

      {_, _} ->
        Mix.raise("erlang_python has no native library; the reason is above")
    end
  end

  @doc "Marks a fetched dependency for compilation if a library that the environment names is missing."
  def mark do
    if File.exists?(@fetched) and Enum.any?(~w(PYTHON PORTABLE), &(System.get_env(&1, "") != "")) do
      {names, 0} = native(["--wanted"], [])
      missing = for name <- String.split(names), not File.exists?(Path.join(@root, name)), do: name
      # Mix compares full seconds, and the last compilation may have been in this one.
      if missing != [], do: File.touch!(@fetched, System.os_time(:second) + 1)
    end

    :ok
  end

  defp unmark do
    now = System.os_time(:second)

    case File.stat(@fetched, time: :posix) do
      {:ok, %{mtime: mtime}} when mtime > now -> File.touch!(@fetched, now)
      _ -> :ok
    end
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

defmodule ErlangPython.MixProject do
  use Mix.Project

  @source Path.join(__DIR__, "src/erlang_python.app.src")
  {:ok, [{:application, :erlang_python, keys}]} = :file.consult(@source)
  @keys keys

  def project do
    :ok = Mix.Tasks.Compile.ErlangPythonNative.mark()

    [
      app: :erlang_python,
      version: List.to_string(@keys[:vsn]),
      description: List.to_string(@keys[:description]),
      elixir: "~> 1.14",
      compilers: [:erlang_python_native | Mix.compilers()],
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
