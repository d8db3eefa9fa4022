defmodule PyExampleTest do
  use ExUnit.Case, async: false
  doctest PyExample

  test "a bound process keeps its state" do
    assert :ok = :py.bind()
    assert :py.is_bound()
    assert :ok = :py.exec("counter = 0")
    assert :ok = :py.exec("counter += 1")
    assert {:ok, 1} = :py.eval("counter")
    assert :ok = :py.unbind()
    refute :py.is_bound()
  end

  test "with_context/1 unbinds after an exception" do
    assert_raise RuntimeError, "on purpose", fn ->
      :py.with_context(fn -> raise "on purpose" end)
    end

    refute :py.is_bound()
  end

  test "a context is a handle that other processes can use" do
    :py.with_context(fn ctx ->
      :ok = :py.ctx_exec(ctx, "x = 1")
      assert :ok = Task.await(Task.async(fn -> :py.ctx_exec(ctx, "x += 1") end))
      assert {:ok, 2} = :py.ctx_eval(ctx, "x")
    end)
  end

  test "Python's exceptions are matched by their built-in class" do
    assert {:error, {:ValueError, error}} = :py.call(:json, :loads, ["{"])
    assert %{class: "json.decoder.JSONDecodeError", message: message} = error
    assert message =~ "Expecting property name"
    assert :py.format_error({:error, {:ValueError, error}}) =~ "JSONDecodeError: Expecting"
  end

  test "nil, maps, atoms and strings cross as Elixir people expect" do
    assert {:ok, true} = :py.eval("x is None", %{x: nil})

    assert {:ok, %{"a" => [1, 2.5, "é"], "b" => :none}} =
             :py.eval("x", %{x: %{a: [1, 2.5, "é"], b: nil}})

    assert {:ok, {"ok", true}} = :py.eval("x", %{x: {:ok, true}})
  end

  test "a stream closes its generator when it is left half-way" do
    :ok = :py.bind()

    :ok =
      :py.exec("""
      closed = False
      def numbers():
          global closed
          try:
              n = 0
              while True:
                  yield n
                  n += 1
          finally:
              closed = True
      """)

    assert [0, 1, 2] = PyExample.stream(:__main__, :numbers, [], 2) |> Enum.take(3)
    assert {:ok, true} = :py.eval("closed")
    assert :ok = :py.unbind()
  end

  test "a stream raises what its generator raises" do
    assert_raise RuntimeError, ~r/StopAsyncIteration|ValueError|TypeError/, fn ->
      PyExample.stream(:builtins, :map, [1, 2]) |> Enum.to_list()
    end
  end

  test "Python calls a function of Elixir, which knows its callers" do
    :ok =
      :py.register_function("greet", fn [name] ->
        "Hello, #{name}: #{inspect(hd(Process.get(:"$callers")))}"
      end)

    greeting = "Hello, Joe: #{inspect(self())}"
    assert {:ok, ^greeting} = :py.eval("__import__('erlang').greet('Joe')")
    :ok = :py.unregister_function("greet")
  end

  test "a context that has ended raises" do
    {:ok, ctx} = :py.bind(:new)
    :ok = :py.unbind(ctx)
    assert_raise ErlangError, ~r/context_not_bound/, fn -> :py.ctx_eval(ctx, "1") end
  end
end
