defmodule PyExampleTest do
  use ExUnit.Case, async: false
  doctest PyExample

  alias PyExample.WordCount

  test "the server counts words, and a new one has none" do
    assert WordCount.add(WordCount, "to be or not to be") == :ok
    assert WordCount.count(WordCount, "be") == {:ok, 2}
    {:ok, other} = WordCount.start_link([])
    assert WordCount.count(other, "be") == {:ok, 0}
    assert GenServer.stop(other) == :ok
  end

  test "the supervisor starts the server again" do
    before = Process.whereis(WordCount)
    monitor = Process.monitor(before)
    Process.exit(before, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^before, :killed}, 5000
    assert restarted(before) != before
    assert WordCount.count(WordCount, "be") == {:ok, 0}
  end

  # Asks the supervisor until it has restarted the server.
  defp restarted(before) do
    case Supervisor.which_children(PyExample.Supervisor) do
      [{WordCount, pid, :worker, _}] when is_pid(pid) and pid != before -> pid
      _ -> restarted(before)
    end
  end

  test "Python calls a function of Elixir, which knows its callers" do
    :ok =
      :py.register_function("greet", fn [name] ->
        "Hello, #{name}: #{inspect(hd(Process.get(:"$callers")))}"
      end)

    assert Py.eval!("__import__('erlang').greet('Joe')") == "Hello, Joe: #{inspect(self())}"
    :ok = :py.unregister_function("greet")
  end
end
