defmodule PyExample do
  @moduledoc """
  Python's `statistics` module, used from Elixir.
  """

  @doc """
  Mean and median of some numbers, computed in one context.

      iex> PyExample.summary([1, 2, 3, 10])
      {:ok, %{mean: 4, median: 2.5}}

      iex> PyExample.summary([])
      {:error, "mean requires at least one data point"}
  """
  @spec summary([number()]) :: {:ok, %{mean: number(), median: number()}} | {:error, String.t()}
  def summary(numbers) do
    :py.with_context(fn ->
      :ok = :py.exec("import statistics")

      with {:ok, mean} <- :py.eval("statistics.mean(xs)", %{xs: numbers}),
           {:ok, median} <- :py.eval("statistics.median(xs)", %{xs: numbers}) do
        {:ok, %{mean: mean, median: median}}
      else
        {:error, {:ValueError, %{message: message}}} -> {:error, message}
      end
    end)
  end

  @doc """
  The running totals of a list, kept by an explicit context from one call to the next.

      iex> PyExample.running_totals([1, 2, 3])
      [1, 3, 6]
  """
  @spec running_totals([number()]) :: [number()]
  def running_totals(numbers) do
    :py.with_context(fn ctx ->
      :ok = :py.ctx_exec(ctx, "total = 0")

      for number <- numbers do
        :ok = :py.ctx_exec(ctx, "total += n", %{n: number})
        {:ok, total} = :py.ctx_eval(ctx, "total")
        total
      end
    end)
  end

  @doc """
  The items of what a Python function returns, as a lazy `Stream`: `count` are asked for at a time,
  and the Python iterator is closed when the stream is.

      iex> PyExample.stream(:itertools, :count, [1]) |> Stream.map(&(&1 * 2)) |> Enum.take(3)
      [2, 4, 6]

      iex> PyExample.stream(:builtins, :range, [25]) |> Enum.sum()
      300
  """
  @spec stream(:py.name(), :py.name(), [term()], pos_integer()) :: Enumerable.t()
  def stream(module, function, args, count \\ 10) do
    start = fn ->
      case :py.stream_start(module, function, args) do
        {:ok, stream} -> stream
        {:error, reason} -> raise :py.format_error(reason)
      end
    end

    next = fn stream ->
      :ok = :py.stream_next(stream, count)

      # Each demand leads to a message, unless the code runs for ever: as in any Enum function.
      receive do
        {:py_stream, ^stream, {:items, items}} -> {items, stream}
        {:py_stream, ^stream, :done} -> {:halt, stream}
        {:py_stream, ^stream, {:error, reason}} -> raise :py.format_error(reason)
      end
    end

    Stream.resource(start, next, &:py.stream_close/1)
  end

  @doc """
  What each of some coroutines returns, all of them in flight at once.

      iex> PyExample.gather(for n <- [3, 1, 2], do: {:asyncio, :sleep, [n / 100, n]})
      {:ok, [3, 1, 2]}
  """
  @spec gather([{:py.name(), :py.name(), [term()]}]) :: :py.result([term()])
  def gather(calls), do: :py.async_gather(calls)
end
