defmodule Py.Stream do
  @moduledoc """
  The items of a Python iterator as a lazy `Stream`.

      iex> Py.Stream.call(:itertools, :count, [1]) |> Stream.map(&(&1 * 2)) |> Enum.take(3)
      [2, 4, 6]

      iex> Py.Stream.eval("(n * n for n in range(stop))", locals: [stop: 4]) |> Enum.to_list()
      [0, 1, 4, 9]

  Nothing runs before the enumeration begins. Each enumeration starts the iterator anew, in the binding of
  the process that enumerates, in the context of `context:`, or on a worker of its own. When the
  enumeration ends, early or by an exception, the iterator is closed: `GeneratorExit` is raised in a
  generator, and its `finally` runs. Errors are raised as `Py.Error`.

  Options of both functions, beside those named there:

    * `batch:` how many items to ask for at a time. With the default, 1, no item is computed before it is
      needed; more are faster for items that take microseconds.
    * `timeout:` milliseconds to wait for each demand, by default `:infinity`, as in any `Enum` function
    * `context:` a `Py.Context`
  """

  @doc "Returns a stream of what a function returns, asynchronous or not. `kwargs:` are its keyword arguments."
  @spec call(Py.name(), Py.name(), [term()], keyword()) :: Enumerable.t()
  def call(module, function, args \\ [], options \\ []) when is_list(args) do
    options = Py.Options.stream(options, [:batch, :kwargs])
    args = Py.Value.encode(args)
    kwargs = Map.get(options, :kwargs, %{})

    stream(options, fn
      %{context: context} -> :py.ctx_stream(context, module, function, args, kwargs)
      %{} -> :py.stream_start(module, function, args, kwargs)
    end)
  end

  @doc "Returns a stream of the value of an expression. `locals:` are its variables."
  @spec eval(Py.code(), keyword()) :: Enumerable.t()
  def eval(code, options \\ []) do
    options = Py.Options.stream(options, [:batch, :locals])
    source = {:eval, IO.chardata_to_string(code), Map.get(options, :locals, %{})}

    stream(options, fn
      %{context: context} -> :py_stream.start_in(context, source)
      %{} -> :py_stream.start(source)
    end)
  end

  defp stream(options, start) do
    batch = Map.get(options, :batch, 1)
    timeout = Map.get(options, :timeout, :infinity)
    start = fn -> options |> start.() |> Py.Error.value!() end
    Stream.resource(start, &next(&1, batch, timeout), &:py.stream_close/1)
  end

  defp next(stream, batch, timeout) do
    with {:error, reason} <- :py.stream_next(stream, batch), do: raise(Py.Error, reason)

    receive do
      {:py_stream, ^stream, {:items, items}} -> {Py.Value.decode(items), stream}
      {:py_stream, ^stream, :done} -> {:halt, stream}
      {:py_stream, ^stream, {:error, reason}} -> raise(Py.Error, reason)
    after
      timeout -> raise(Py.Error, :timeout)
    end
  end
end
