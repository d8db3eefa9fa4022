defmodule Py.Value do
  @moduledoc false
  # Values on their way to Python and back: what Elixir has and Erlang has not. The rest is done by the
  # native code, so other terms pass as they are.

  @doc "Returns the term to send: handles without their structs, structs as what they stand for."
  def encode(plain) when is_number(plain) or is_binary(plain) or is_atom(plain), do: plain
  # A list that is improper is refused by the native code, with the reason.
  def encode([head | tail]), do: [encode(head) | encode(tail)]
  def encode(%Py.Object{ref: ref}), do: ref
  def encode(%Py.Context{ref: ref}), do: ref

  def encode(%module{} = time) when module in [Date, Time, NaiveDateTime, DateTime],
    do: module.to_iso8601(time)

  def encode(%module{} = items) when module in [MapSet, Range], do: encode(Enum.to_list(items))
  def encode(%_struct{} = other), do: other |> Map.from_struct() |> encode()
  def encode(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> encode() |> List.to_tuple()

  def encode(map) when is_map(map) do
    encoded = Map.new(map, fn {key, value} -> {encode(key), encode(value)} end)
    if map_size(encoded) == map_size(map), do: encoded, else: raise_collision(map)
  end

  def encode(other), do: other

  defp raise_collision(map) do
    raise ArgumentError, "two keys of a map become one in Python: #{inspect(Map.keys(map), limit: 10)}"
  end

  @doc "Returns a result as Elixir has it: nil for None, objects behind `Py.Object`."
  def decode(plain) when is_number(plain) or is_binary(plain), do: plain
  def decode([head | tail]), do: [decode(head) | decode(tail)]
  # Items of streams have no form of their own.
  def decode(:none), do: nil
  def decode(ref) when is_reference(ref), do: if(:py.is_object(ref), do: %Py.Object{ref: ref}, else: ref)
  def decode(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> decode() |> List.to_tuple()

  def decode(map) when is_map(map),
    do: :maps.from_list(for {key, value} <- :maps.to_list(map), do: {decode(key), decode(value)})

  def decode(other), do: other

  @doc "Decodes the value of a result."
  def decoded({:ok, value}), do: {:ok, decode(value)}
  def decoded(other), do: other
end
