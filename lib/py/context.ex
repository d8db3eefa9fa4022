defmodule Py.Context do
  @moduledoc """
  A Python worker with a namespace of its own, behind a handle.

      iex> {:ok, context} = Py.Context.new()
      iex> Py.exec("x = 1", context: context)
      :ok
      iex> Py.eval("x + 1", context: context)
      {:ok, 2}
      iex> Py.Context.close(context)
      :ok

  A process may hold any number of contexts, and any process that has the handle may use it. A context
  ends with `close/1`, with the process that made it, or when its last handle is garbage collected; its
  use then raises an `ErlangError` with `:context_not_bound`. `Py.with_context/1` closes it whatever
  happens.
  """

  @enforce_keys [:ref]
  defstruct [:ref]

  @typedoc "A context; `ref` is what the functions of `:py` take."
  @type t :: %__MODULE__{ref: :py.context()}

  @doc """
  Returns a new context.

  Waits `wait:` milliseconds for a free worker, by default 0, in the pool `pool:`, by default `:default`.
  """
  @spec new(wait: timeout(), pool: atom()) :: {:ok, t()} | {:error, :no_workers_available}
  def new(options \\ []) do
    options = options |> Keyword.validate!([:wait, :pool]) |> Map.new()
    with {:ok, ref} <- :py.bind(:new, options), do: {:ok, %__MODULE__{ref: ref}}
  end

  @doc "Returns a new context, or raises `Py.Error`."
  @spec new!(wait: timeout(), pool: atom()) :: t()
  def new!(options \\ []), do: options |> new() |> Py.Error.value!()

  @doc "Ends a context. Does nothing if the context has ended before."
  @spec close(t()) :: :ok
  def close(%__MODULE__{ref: ref}), do: :py.unbind(ref)

  defimpl Inspect do
    def inspect(%{ref: ref}, _options) when is_reference(ref) do
      "#Reference<" <> rest = Kernel.inspect(ref)
      "#Py.Context<" <> rest
    end

    def inspect(other, options), do: Inspect.Any.inspect(other, options)
  end
end
