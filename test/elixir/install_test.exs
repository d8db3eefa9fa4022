defmodule Py.InstallTest do
  @moduledoc "Does a script, and a notebook, get the application with Mix.install, from this directory?"
  use ExUnit.Case, async: false

  @root File.cwd!()
  @moduletag timeout: 600_000

  # Runs Elixir, with an empty directory for what it installs, and returns what it prints. Newer versions of
  # Mix want Hex if they find an earlier installation, though nothing needs it.
  defp elixir(arguments, directory) do
    installs = Path.join(@root, "_build/mix/installs")
    File.rm_rf!(installs)
    environment = [{"MIX_INSTALL_DIR", installs}, {"MIX_ENV", nil}, {"HEX_OFFLINE", "1"}]

    {output, status} =
      System.cmd("elixir", arguments, cd: directory, env: environment, stderr_to_stdout: true)

    assert status == 0, output
    output
  end

  test "a script installs the application and runs Python" do
    script = ~S"""
    Mix.install([{:erlang_python, path: "."}])
    6 = Py.eval!("sum(xs)", locals: [xs: [1, 2, 3]])
    {:ok, 2} = :py.eval("1 + 1")
    IO.puts("done: #{Py.call!(:os, :getpid) == String.to_integer(System.pid())}")
    """

    assert elixir(["-e", script], @root) =~ ~r/^done: true$/m
  end

  test "the cells of the notebook run" do
    directory = Path.join(@root, "_build/mix/notebook")
    File.rm_rf!(directory)
    File.mkdir_p!(directory)
    page = Path.join(@root, "examples/livebook/python.livemd")

    cells =
      Regex.scan(~r/^```elixir\n(.*?)^```$/ms, File.read!(page), capture: :all_but_first) |> List.flatten()

    assert length(cells) >= 9
    files = for {cell, index} <- Enum.with_index(cells), do: {Path.join(directory, "#{index}.exs"), cell}
    for {file, cell} <- files, do: File.write!(file, cell)

    # As in Livebook: variables, imports and the directory of the page go from one cell to the next.
    File.write!(Path.join(directory, "run.exs"), ~s"""
    Enum.reduce(#{inspect(Enum.map(files, &elem(&1, 0)))}, {[], Code.env_for_eval(file: #{inspect(page)})}, fn file, {binding, env} ->
      {value, binding, env} = Code.eval_quoted_with_env(Code.string_to_quoted!(File.read!(file)), binding, env)
      IO.puts("cell: " <> inspect(value))
      {binding, env}
    end)
    """)

    output = elixir([Path.join(directory, "run.exs")], directory)
    values = Regex.scan(~r/^cell: (.*)$/m, output, capture: :all_but_first) |> List.flatten()
    assert length(values) == length(cells)
    assert ~S(%{"cake" => 7.5, "tea" => 4.0}) in values
    assert ~S(%{"cake" => 3, "tea" => 2}) in values
    assert "2.5" in values
    assert "[21, 28, 91]" in values
    assert Enum.any?(values, &(&1 =~ ~r/^{:KeyError, "Traceback .*KeyError: 'coffee'"}$/))
    assert Enum.any?(values, &(&1 =~ ~r/^{#Py.Object<[\d.]+>, 3, "1\/3"}$/))
  end
end
