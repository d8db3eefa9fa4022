defmodule Py.SigilTest do
  use ExUnit.Case, async: false
  import Py, only: :sigils

  defp binding_of(value) do
    unused = :not_looked_up
    _ = unused
    {~P"value", ~P"'unused' in globals()"}
  end

  defmacrop hidden do
    quote do
      value = 1
      {value, ~P"value"}
    end
  end

  test "returns the value of the last expression" do
    assert ~P"1 + 1" == 2
    assert ~P"x = 1" == nil
    assert ~P"object()" |> is_struct(Py.Object)

    assert ~P"""
           def double(x):
               return 2 * x

           double(21)
           """ == 42
  end

  test "passes the variables that the code looks up" do
    assert binding_of("é") == {"é", false}
    xs = [1, 2, 3]
    day = ~D[2026-11-28]
    factor = nil
    assert ~P"[sum(xs), f'on {day}', factor is None]" == [6, "on 2026-11-28", true]
    straße = 1
    assert ~P"straße + 1" == 2
  end

  test "leaves Elixir's variables as they are" do
    total = 1
    assert ~P"total += 1; total" == 2
    assert total == 1
  end

  test "hides no global of Python by a variable that the code does not look up" do
    Py.with_context(fn ->
      Py.exec!("total = 'of Python'\ndef f(): return total")
      total = "of Elixir"
      assert ~P"f()  # total" == "of Python"
      assert ~P"total" == total
    end)
  end

  test "passes no variable of a macro, and none with an underscore" do
    value = 2
    assert hidden() == {1, value}
    _value = 3
    assert_raise Py.Error, ~r/name '_value' is not defined/, fn -> ~P"_value" end
  end

  test "Python's variables stay in a binding" do
    Py.with_context(fn ->
      ~P"count = 1"
      ~P"count += 1"
      assert ~P"count" == 2
    end)
  end

  test "tracebacks have the lines of this file" do
    file = Path.relative_to_cwd(__ENV__.file)
    line = __ENV__.line

    error =
      assert_raise Py.Error, fn ->
        ~P"""
        x = 0

        1 / x
        """
      end

    assert {_, %{traceback: [%{file: ^file, line: at, function: "<module>"}]}} = error.reason
    assert at == line + 7

    assert error.message =~
             ~s(File "#{file}", line #{at}, in <module>\n    1 / x\nZeroDivisionError: division by zero)

    error = assert_raise Py.Error, fn -> ~P"1 / 0" end
    assert {_, %{traceback: [%{line: at}]}} = error.reason
    assert at == __ENV__.line - 2
  end

  test "syntax errors have the lines of this file" do
    line = __ENV__.line + 5

    error =
      assert_raise Py.Error, fn ->
        ~P"""
        x = )
        """
      end

    assert {:SyntaxError, %{syntax: %{line: ^line}}} = error.reason
  end

  test "takes no modifiers" do
    assert_raise ArgumentError, ~r/no modifiers, got: 'x'|no modifiers, got: ~c"x"/, fn ->
      Code.eval_string(~S(import Py, only: :sigils; ~P"1"x))
    end
  end

  # Elixir 1.14 reads one letter only.
  if Version.match?(System.version(), ">= 1.15.0") do
    test "has two letters from Elixir 1.15 on" do
      code = ~S'import Py, only: :sigils; x = 20; ~PY"""' <> "\nx + 1\n" <> ~S'"""'
      assert {21, _} = Code.eval_string(code)
    end
  end

  test "is one macro under both names" do
    code = {:<<>>, [line: 7], ["x + 1"]}
    calls = quote(do: [Py.sigil_PY(unquote(code), []), Py.sigil_P(unquote(code), [])])
    assert {[21, 21], _} = Code.eval_quoted(quote(do: (fn var!(x) -> unquote(calls) end).(20)), [], __ENV__)
  end
end
