defmodule Py.Error do
  @moduledoc """
  An error of a Python call, which the functions with a bang raise.

  `reason` is what the function without a bang returns in `{:error, reason}`; the list is in
  `docs/guide/errors.md`. `type` is the built-in class of a Python exception, such as `:ValueError`, or
  the error itself, such as `:timeout`. The message is what Python would print, with the traceback.

      iex> try do
      ...>   Py.eval!("1 / 0")
      ...> rescue
      ...>   error in Py.Error -> {error.type, error.message |> String.split("\\n") |> List.last()}
      ...> end
      {:ZeroDivisionError, "ZeroDivisionError: division by zero"}
  """

  defexception [:type, :reason, :message]

  @type t :: %__MODULE__{type: atom(), reason: :py.error_reason(), message: String.t()}

  @impl true
  def exception(reason) do
    %__MODULE__{type: type(reason), reason: reason, message: :py.format_error(reason)}
  end

  defp type({type, _details}) when is_atom(type), do: type
  defp type(type) when is_atom(type), do: type
  defp type(_other), do: nil

  @doc false
  def value!(:ok), do: :ok
  def value!({:ok, value}), do: value
  def value!({:error, reason}), do: raise(__MODULE__, reason)
end
