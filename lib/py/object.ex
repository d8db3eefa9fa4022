defmodule Py.Object do
  @moduledoc """
  A Python object that has no form in Elixir, behind a handle.

  As an argument or a variable it is that object again. `Py.getattr/3` and `Py.call/4` reach its
  attributes and methods. The object lives until the last copy of its handle is garbage collected.

      iex> {:ok, third} = Py.call(:fractions, :Fraction, [1, 3])
      iex> Py.eval("third.denominator", locals: [third: third])
      {:ok, 3}
      iex> inspect(third) =~ ~r/^#Py.Object<[0-9.]+>$/
      true

  `inspect/2` shows the handle and calls no Python code: a `__repr__` may wait, or fail.
  """

  @enforce_keys [:ref]
  defstruct [:ref]

  @typedoc "A handle; `ref` is what the functions of `:py` take."
  @type t :: %__MODULE__{ref: reference()}

  defimpl Inspect do
    def inspect(%{ref: ref}, _options) when is_reference(ref) do
      "#Reference<" <> rest = Kernel.inspect(ref)
      "#Py.Object<" <> rest
    end

    def inspect(other, options), do: Inspect.Any.inspect(other, options)
  end
end
