defmodule Py.Options do
  @moduledoc false
  # Keyword options, checked, in the form that the Erlang modules take.

  @doc "The options of a call, of which `others` are allowed beside `timeout`, and `context` or `pool`."
  def call(options, others) do
    options = stream(options, [:pool | others])
    if is_map_key(options, :context) and is_map_key(options, :pool), do: wrong("context: or pool:", options)
    options
  end

  @doc "The options of a stream: those of a call without `pool`."
  def stream(options, others) do
    options = Keyword.validate!(options, [:timeout, :context | others])
    Map.new(options, fn {key, value} -> {key, option(key, value)} end)
  end

  defp option(:context, %Py.Context{ref: ref}), do: ref
  defp option(:context, other), do: wrong("context: a Py.Context", other)
  defp option(:batch, count) when is_integer(count) and count > 0, do: count
  defp option(:batch, other), do: wrong("batch: a positive integer", other)
  defp option(:timeout, :infinity), do: :infinity
  defp option(:timeout, time) when is_integer(time) and time in 0..0xFFFFFFFF, do: time
  defp option(:timeout, other), do: wrong("timeout: milliseconds or :infinity", other)
  defp option(:pool, name) when is_atom(name), do: name
  defp option(:pool, other), do: wrong("pool: an atom", other)
  defp option(:return, value) when value in [:term, :object], do: value
  defp option(:return, other), do: wrong("return: :term or :object", other)
  defp option(:arrays, value) when value in [:list, :binary], do: value
  defp option(:arrays, other), do: wrong("arrays: :list or :binary", other)
  defp option(key, value) when key in [:locals, :kwargs], do: variables(key, value)
  defp option(_key, value), do: value

  # Names as text: `true` and `nil` are names here.
  defp variables(key, %_struct{} = other), do: wrong_variables(key, other)

  defp variables(key, variables) when is_list(variables) or is_map(variables) do
    Map.new(variables, fn
      {name, value} when is_atom(name) -> {Atom.to_string(name), Py.Value.encode(value)}
      {name, value} when is_binary(name) -> {name, Py.Value.encode(value)}
      other -> wrong("#{key}: pairs of a name and a value", other)
    end)
  end

  defp variables(key, other), do: wrong_variables(key, other)

  defp wrong_variables(key, other), do: wrong("#{key}: a keyword list or a map", other)

  @spec wrong(String.t(), term()) :: no_return()
  defp wrong(expected, value) do
    raise ArgumentError, "expected #{expected}, got: #{inspect(value)}"
  end
end
