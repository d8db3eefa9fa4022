defmodule PyTest do
  use ExUnit.Case, async: false

  doctest Py
  doctest Py.Context
  doctest Py.Error
  doctest Py.Object
  doctest Py.Stream

  setup do
    on_exit(fn -> assert Py.Test.leased() == 0 end)
  end

  describe "functions with a bang" do
    test "return the value" do
      assert Py.eval!("1 + 1") == 2
      assert Py.run!("x = 1\nx + 1") == 2
      assert Py.exec!("x = 1") == :ok
      assert Py.call!(:math, :sqrt, [16]) == 4.0
      assert Py.bind!() == :ok
      assert Py.unbind() == :ok
    end

    test "raise what the others return" do
      for {result, raising} <- [
            {Py.eval("1 / 0"), fn -> Py.eval!("1 / 0") end},
            {Py.run("1 / 0"), fn -> Py.run!("1 / 0") end},
            {Py.exec("1 / 0"), fn -> Py.exec!("1 / 0") end},
            {Py.call(:operator, :truediv, [1, 0]), fn -> Py.call!(:operator, :truediv, [1, 0]) end}
          ] do
        assert {:error, {:ZeroDivisionError, %{class: "ZeroDivisionError"}} = reason} = result
        error = assert_raise Py.Error, raising
        assert error.type == :ZeroDivisionError
        assert error.reason == reason
        assert Exception.message(error) == :py.format_error(reason)

        assert Exception.message(error) =~ "Traceback (most recent call last)" or
                 match?({_, %{traceback: []}}, reason)
      end
    end

    test "raise other errors by their name" do
      assert Py.eval("[0 for _ in iter(int, 1)]", timeout: 50) == {:error, :timeout}
      error = assert_raise Py.Error, fn -> Py.eval!("[0 for _ in iter(int, 1)]", timeout: 50) end
      assert {error.type, error.reason} == {:timeout, :timeout}
      assert Exception.message(error) == "the call took longer than its timeout"

      error = assert_raise Py.Error, fn -> Py.eval!("x", locals: [x: [1 | 2]]) end
      assert {:unconvertible, {:unconvertible, %{reason: :improper_list}}} = {error.type, error.reason}
    end
  end

  describe "casts" do
    test "run, in the binding, the context or the pool" do
      :ok = :py.register_function("told", fn [pid, value] -> send(pid, {:told, value}) end)
      tell = fn value, options -> Py.cast(:erlang, :call, ["told", self(), value], options) end
      assert tell.(1, []) == :ok
      assert_receive {:told, 1}, 10_000
      assert tell.(nil, timeout: 5000, pool: :default) == :ok
      assert_receive {:told, :none}, 10_000

      Py.with_context(fn context ->
        assert tell.(2, context: context) == :ok
        assert_receive {:told, 2}, 10_000
        assert Py.cast(:time, :sleep, [0], context: context, timeout: 5000) == :ok
        # A cast that is under way when its context ends would be logged as interrupted.
        assert Py.eval("1", context: context) == {:ok, 1}
      end)

      assert_raise ArgumentError, fn -> Py.cast(:math, :sqrt, [4], locals: [x: 1]) end
      :ok = :py.unregister_function("told")
    end
  end

  describe "options" do
    test "a context is used by every function" do
      Py.with_context(fn context ->
        options = [context: context, timeout: 5000]
        assert Py.exec("class C:\n  def m(self, x=1): return x\nc = C()", context: context) == :ok
        assert Py.exec("y = z", [locals: [z: 5]] ++ options) == :ok
        assert Py.eval("y", context: context) == {:ok, 5}
        assert Py.eval("y + z", [locals: %{"z" => 1}] ++ options) == {:ok, 6}
        assert Py.run("y += 1\ny", context: context) == {:ok, 6}
        assert Py.run("y += 1\ny", options) == {:ok, 7}
        assert Py.call(:__main__, "c.m", [], context: context) == {:ok, 1}
        assert Py.call(:__main__, "c.m", [], [kwargs: %{x: 2}] ++ options) == {:ok, 2}
        object = Py.eval!("c", options)
        assert Py.call(object, :m, [3], options) == {:ok, 3}
        assert {:ok, %Py.Object{}} = Py.getattr(object, "m", options)
      end)
    end

    test "a timeout stops the code" do
      loop = "while True: pass"
      assert Py.exec(loop, timeout: 50) == {:error, :timeout}
      assert Py.run(loop, timeout: 50) == {:error, :timeout}
      assert Py.call(:builtins, :exec, [loop, %{}], timeout: 50) == {:error, :timeout}
    end

    test "names may be those of Elixir's special atoms" do
      assert Py.eval("nil_", locals: [nil_: 1]) == {:ok, 1}
      assert Py.eval("true", locals: [true: 1]) == {:ok, 1}
      assert Py.call(:builtins, :dict, [], kwargs: [nil: 1, true: 2]) == {:ok, %{"nil" => 1, "true" => 2}}
    end

    test "unknown and wrong options raise ArgumentError" do
      {:ok, dead} = Py.Context.new()
      :ok = Py.Context.close(dead)

      for options <- [
            [unknown: 1],
            [timeout: -1],
            [timeout: 1.0],
            [context: dead.ref],
            [locals: 1],
            [locals: [1]],
            [locals: %{1 => 1}],
            [locals: ~D[2026-11-28]]
          ],
          fun <- [&Py.eval/2, &Py.exec/2, &Py.run/2, &Py.Stream.eval/2] do
        assert_raise ArgumentError, fn -> fun.("1", options) end
      end

      assert_raise ArgumentError, "expected locals: a keyword list or a map, got: ~D[2026-11-28]", fn ->
        Py.eval("1", locals: ~D[2026-11-28])
      end

      assert_raise ArgumentError, fn -> Py.call(:math, :sqrt, [4], locals: []) end
      assert_raise ArgumentError, fn -> Py.run("1", line: 0) end
      assert_raise ArgumentError, fn -> Py.run("1", file: 1) end
      assert_raise ArgumentError, fn -> Py.bind(unknown: 1) end
      assert_raise ArgumentError, fn -> Py.bind(wait: -1) end
      assert_raise ArgumentError, fn -> Py.Context.new(wait: :never) end
      assert_raise ArgumentError, fn -> Py.Stream.call(:builtins, :range, [3], batch: 0) end
      assert_raise ArgumentError, fn -> Py.eval(:code) end
    end
  end

  describe "bindings" do
    test "a bound process keeps its variables, also within with_context" do
      assert Py.bind(wait: 1000) == :ok
      assert Py.bound?()
      assert Py.exec("x = 1") == :ok
      assert Py.with_context(fn -> Py.eval("x") end) == {:ok, 1}
      assert Py.bound?()
      assert Py.unbind() == :ok
      refute Py.bound?()
    end

    test "with_context gives the worker back after an exception" do
      assert_raise RuntimeError, "on purpose", fn -> Py.with_context(fn -> raise "on purpose" end) end
      assert_raise RuntimeError, "on purpose", fn -> Py.with_context(fn _ -> raise "on purpose" end) end
      refute Py.bound?()
    end

    test "no free worker is an error" do
      workers = :py_pool.get_stats().num_workers
      contexts = for _ <- 1..workers, do: Py.Context.new!()
      assert Py.bind() == {:error, :no_workers_available}
      assert Py.Context.new(wait: 1) == {:error, :no_workers_available}

      for raising <- [
            fn -> Py.bind!() end,
            fn -> Py.Context.new!() end,
            fn -> Py.with_context(fn -> flunk("ran") end) end,
            fn -> Py.with_context(fn _ -> flunk("ran") end) end
          ] do
        assert assert_raise(Py.Error, raising).type == :no_workers_available
      end

      Enum.each(contexts, &Py.Context.close/1)
    end

    test "a context that has ended raises" do
      context = Py.Context.new!()
      assert Py.Context.close(context) == :ok
      assert Py.Context.close(context) == :ok
      assert_raise ErlangError, ~r/context_not_bound/, fn -> Py.eval("1", context: context) end
    end

    test "a context is shown as a handle" do
      Py.with_context(fn context -> assert inspect(context) =~ ~r/^#Py.Context<[\d.]+>$/ end)
      assert inspect(%Py.Context{ref: 1}) == "%Py.Context{ref: 1}"
    end
  end

  describe "a pool" do
    setup do
      :ok = :py_pool.start(:of_test, %{level: :process, num_workers: 1})
      on_exit(fn -> :py_pool.stop(:of_test) end)
      %{vm: Py.eval!("__import__('os').getpid()")}
    end

    test "runs calls, bindings and contexts of its name", %{vm: vm} do
      pid = "__import__('os').getpid()"
      child = Py.eval!(pid, pool: :of_test)
      assert child != vm
      assert Py.run!(pid, pool: :of_test, timeout: 5000) == child
      assert Py.call!(:os, :getpid, [], pool: :of_test) == child
      assert Py.exec("import os; assert os.getpid() == child", locals: [child: child], pool: :of_test) == :ok
      assert Py.bind(pool: :of_test) == :ok
      assert Py.eval!(pid, pool: :of_test) == child
      assert Py.Context.new(pool: :of_test) == {:error, :no_workers_available}
      assert Py.unbind() == :ok
      assert Py.with_context([pool: :of_test], fn -> Py.eval!(pid) end) == child
      assert Py.with_context([pool: :of_test, wait: 5000], &Py.eval!(pid, context: &1)) == child
      assert Py.eval!(pid) == vm
    end

    test "is an atom, and not together with a context" do
      context = Py.Context.new!()
      assert_raise ArgumentError, ~r/pool: an atom/, fn -> Py.eval("1", pool: "of_test") end

      assert_raise ArgumentError, ~r/context: or pool:/, fn ->
        Py.eval("1", pool: :of_test, context: context)
      end

      assert_raise ArgumentError, fn -> Py.Stream.eval("[1]", pool: :of_test) end
      assert_raise ArgumentError, fn -> Py.eval("1", pool: :nothing) end
    end
  end

  describe "values" do
    test "nil is None on both sides, also in containers" do
      assert Py.eval("x is None", locals: [x: nil]) == {:ok, true}
      assert Py.eval("[None, {'a': None}, (None,)]") == {:ok, [nil, %{"a" => nil}, {nil}]}
      assert Py.call(:json, :dumps, [[nil]]) == {:ok, "[null]"}
      assert Py.call(:json, :loads, ["[null]"]) == {:ok, [nil]}
    end

    test "structs cross as what they stand for" do
      {:ok, zoned, 0} = DateTime.from_iso8601("2026-11-28T12:30:00Z")

      for {value, text} <- [
            {~D[2026-11-28], "2026-11-28"},
            {~T[12:30:00], "12:30:00"},
            {~N[2026-11-28 12:30:00.5], "2026-11-28T12:30:00.5"},
            {zoned, "2026-11-28T12:30:00Z"},
            {MapSet.new([1]), [1]},
            {1..5//2, [1, 3, 5]},
            {%URI{host: "h"},
             %{Map.from_struct(%URI{host: "h"}) | host: "h"} |> Map.new(fn {k, v} -> {"#{k}", v} end)}
          ] do
        assert Py.eval("x", locals: [x: value]) == {:ok, text}
        assert Py.eval("x", locals: [x: %{"k" => [{value}]}]) == {:ok, %{"k" => [{text}]}}
      end

      assert Py.eval("__import__('datetime').date.fromisoformat(d).year", locals: [d: ~D[2026-11-28]]) ==
               {:ok, 2026}

      assert Py.eval("__import__('datetime').datetime.fromisoformat(d).hour", locals: [d: zoned]) == {:ok, 12}
    end

    test "keys that become one are refused" do
      assert_raise ArgumentError, ~r/two keys/, fn ->
        Py.eval("x", locals: [x: %{~D[2026-11-28] => 1, "2026-11-28" => 2}])
      end
    end

    test "other terms come back as they went" do
      for value <- [
            1,
            2.5,
            "é",
            <<255>>,
            [],
            {},
            %{},
            true,
            self(),
            make_ref() |> then(fn _ -> <<1::3>> end),
            &is_nil/1
          ] do
        assert Py.eval("x", locals: [x: value]) == {:ok, value}
      end
    end

    test "an object is itself again as an argument, wherever it stands" do
      object = Py.eval!("object()")
      assert %Py.Object{} = object

      assert {:ok, true} =
               Py.eval("a is b[0] and a is c['k'][0]", locals: [a: object, b: [object], c: %{k: {object}}])

      assert {:ok, [%Py.Object{}, {%Py.Object{}}]} = Py.eval("[object(), (object(),)]")
    end
  end

  describe "objects" do
    test "have methods and attributes" do
      object = Py.call!(:fractions, :Fraction, [1, 3])
      assert Py.getattr!(object, "numerator") == 1
      assert Py.call!(object, :__add__, [1]) |> Py.getattr!(:numerator) == 4
      assert Py.getattr!(object, "real.denominator") == 3
      assert Py.call!(object, "real.limit_denominator", [2]) |> Py.getattr!(:numerator) == 1
      assert {:error, {:AttributeError, _}} = Py.getattr(object, :missing)
      assert {:error, {:AttributeError, _}} = Py.getattr(object, "real.missing")
      assert_raise Py.Error, ~r/AttributeError/, fn -> Py.getattr!(object, :missing) end
      assert_raise Py.Error, ~r/AttributeError/, fn -> Py.call!(object, :missing) end
    end

    test "are shown without a call into Python" do
      Py.with_context(fn context ->
        Py.exec!("class C:\n  def __repr__(self):\n    while True: pass", context: context)
        object = Py.eval!("C()", context: context)
        assert inspect([object]) =~ ~r/^\[#Py.Object<[\d.]+>\]$/
      end)

      assert inspect(%Py.Object{ref: nil}) == "%Py.Object{ref: nil}"
    end
  end
end
