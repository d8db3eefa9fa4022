defmodule FormsTest do
  use ExUnit.Case, async: false

  test "a result may stay in Python" do
    {:ok, %Py.Object{} = list} = Py.eval("[3, None]", return: :object)
    assert {:ok, 3} = Py.call(list, :pop, [0])
    assert {:ok, [nil]} = Py.call(list, :copy)
    assert {:ok, %Py.Object{}} = Py.run("x = 'a'\nx", return: :object)
    assert {:ok, %Py.Object{} = text} = Py.call(:builtins, :str, [5], return: :object)
    assert Py.call!(text, :__len__) == 1
  end

  test "None is nil, and an atom of the name none is one" do
    assert {:ok, [nil, %{"a" => nil}]} = Py.eval("[None, {'a': None}]")
    assert {:ok, nil} = Py.run("None")
    assert {:ok, nil} = Py.run("None", file: "here.py", line: 3)
  end

  test "a reference of Elixir comes back as it is" do
    reference = make_ref()
    assert {:ok, ^reference} = Py.eval("x", locals: [x: reference])
  end

  test "options of runs in contexts" do
    {:ok, context} = Py.Context.new()
    assert {:ok, 3} = Py.run("x = n\nx", locals: [n: 3], context: context, timeout: 5000)
    assert {:ok, 3} = Py.eval("x", context: context)
    assert {:error, :timeout} = Py.run("import time\ntime.sleep(9)", context: context, timeout: 50)
    :ok = Py.Context.close(context)
  end

  test "output is captured" do
    assert {{:ok, nil}, "a\n"} = Py.with_output(fn -> Py.run("print('a')") end)
  end

  test "wrong options raise" do
    assert_raise ArgumentError, ~r/return: :term or :object/, fn -> Py.eval("1", return: :handle) end
    assert_raise ArgumentError, ~r/arrays: :list or :binary/, fn -> Py.eval("1", arrays: :tuple) end
    assert_raise ArgumentError, fn -> Py.exec("1", return: :object) end
  end
end
