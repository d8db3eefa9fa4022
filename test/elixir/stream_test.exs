defmodule Py.StreamTest do
  use ExUnit.Case, async: false

  @numbers """
  closed, made = [], []
  def numbers(stop, name='a'):
      try:
          for n in range(stop):
              made.append(n)
              yield n
      finally:
          closed.append(name)
  """

  setup do
    on_exit(fn -> assert Py.Test.leased() == 0 end)
  end

  defp in_binding(fun) do
    Py.with_context(fn ->
      Py.exec!(@numbers)
      fun.()
    end)
  end

  test "all items come, however many at a time" do
    for batch <- [1, 7, 1000] do
      stream = Py.Stream.call(:builtins, :range, [100], batch: batch)
      assert Enum.to_list(stream) == Enum.to_list(0..99)
      assert Enum.sum(stream) == 4950
    end

    assert Py.Stream.eval("[]") |> Enum.to_list() == []
  end

  test "nothing is computed before it is needed" do
    in_binding(fn ->
      stream = Py.Stream.call(:__main__, :numbers, [10], kwargs: [name: "lazy"])
      assert Py.eval!("made") == []
      assert Enum.take(stream, 2) == [0, 1]
      assert Py.eval!("made") == [0, 1]
    end)
  end

  test "the iterator is closed when the enumeration halts early" do
    in_binding(fn ->
      stream = Py.Stream.call(:__main__, :numbers, [1000], batch: 10)
      assert stream |> Stream.map(&(&1 * 2)) |> Enum.take(3) == [0, 2, 4]
      assert Py.eval!("closed") == ["a"]
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _ -> raise "on purpose" end) end
      assert Py.eval!("closed") == ["a", "a"]
      refute_received {:py_stream, _, _}
    end)
  end

  test "two enumerations may be under way" do
    in_binding(fn ->
      stream = Py.Stream.call(:__main__, :numbers, [3])
      assert Enum.zip(stream, stream) == [{0, 0}, {1, 1}, {2, 2}]
      assert Py.eval!("closed") == ["a", "a"]
    end)
  end

  test "a context may be named" do
    Py.with_context(fn context ->
      Py.exec!(@numbers, context: context)
      assert Py.Stream.call(:__main__, :numbers, [2], context: context) |> Enum.to_list() == [0, 1]
      assert Py.Stream.eval("numbers(n)", context: context, locals: [n: 2]) |> Enum.to_list() == [0, 1]
    end)
  end

  test "items are values as those of results" do
    assert [nil, %{"a" => nil}, %Py.Object{}] =
             Py.Stream.eval("[None, {'a': None}, object()]") |> Enum.to_list()
  end

  test "errors are raised, at the start and later" do
    assert_raise Py.Error, ~r/NameError/, fn -> Py.Stream.eval("missing") |> Enum.to_list() end
    stream = Py.Stream.eval("(1 // n for n in [1, 0])")
    assert Enum.take(stream, 1) == [1]
    assert_raise Py.Error, ~r/ZeroDivisionError/, fn -> Enum.to_list(stream) end
    refute_received {:py_stream, _, _}
  end

  test "a timeout stops the code" do
    stream = Py.Stream.eval("(n for n in iter(int, 1) if n)", timeout: 50)
    error = assert_raise Py.Error, fn -> Enum.take(stream, 1) end
    assert error.type == :timeout
    refute_received {:py_stream, _, _}
  end
end
