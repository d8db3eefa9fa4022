defmodule PyExample do
  @moduledoc """
  Some uses of Python from Elixir: a binding, a sigil, a context, a stream, coroutines.
  """

  import Py, only: :sigils

  @doc """
  Mean and median of some numbers, with Python's `statistics`.

      iex> PyExample.summary([1, 2, 3, 10])
      {:ok, %{mean: 4, median: 2.5}}

      iex> PyExample.summary([])
      {:error, "mean requires at least one data point"}
  """
  @spec summary([number()]) :: {:ok, %{mean: number(), median: number()}} | {:error, String.t()}
  def summary(numbers) do
    Py.with_context(fn ->
      Py.exec!("import statistics")

      with {:ok, mean} <- Py.eval("statistics.mean(xs)", locals: [xs: numbers]),
           {:ok, median} <- Py.eval("statistics.median(xs)", locals: [xs: numbers]) do
        {:ok, %{mean: mean, median: median}}
      else
        {:error, {:ValueError, %{message: message}}} -> {:error, message}
      end
    end)
  end

  @doc """
  The words of a text that stand in it most often, computed by a piece of Python.

      iex> PyExample.most_common("to be or not to be", 2)
      [{"to", 2}, {"be", 2}]
  """
  @spec most_common(String.t(), pos_integer()) :: [{String.t(), pos_integer()}]
  def most_common(text, count) do
    ~P"""
    from collections import Counter

    Counter(text.split()).most_common(count)
    """
  end

  @doc """
  The running totals of a list, kept by a context from one call to the next.

      iex> PyExample.running_totals([1, 2, 3])
      [1, 3, 6]
  """
  @spec running_totals([number()]) :: [number()]
  def running_totals(numbers) do
    Py.with_context(fn context ->
      Py.exec!("total = 0", context: context)

      for number <- numbers do
        Py.run!("total += n\ntotal", context: context, locals: [n: number])
      end
    end)
  end

  @doc """
  The first prime numbers, from a Python generator that would go on for ever.

      iex> PyExample.primes() |> Stream.map(&(&1 * 10)) |> Enum.take(4)
      [20, 30, 50, 70]
  """
  @spec primes() :: Enumerable.t()
  def primes do
    Py.Stream.eval(
      "(n for n in __import__('itertools').count(2) if all(n % d for d in range(2, n)))",
      batch: 10
    )
  end

  @doc """
  The items of what a Python function returns. With more of them asked for at a time, small ones come faster.

      iex> PyExample.stream(:itertools, :count, [1]) |> Stream.map(&(&1 * 2)) |> Enum.take(3)
      [2, 4, 6]

      iex> PyExample.stream(:builtins, :range, [25]) |> Enum.sum()
      300
  """
  @spec stream(Py.name(), Py.name(), [term()], pos_integer()) :: Enumerable.t()
  def stream(module, function, args, count \\ 10),
    do: Py.Stream.call(module, function, args, batch: count)

  @doc """
  The result of each of some coroutines, all of them under way at once.

      iex> PyExample.gather(for n <- [3, 1, 2], do: {:asyncio, :sleep, [n / 100, n]})
      {:ok, [3, 1, 2]}
  """
  @spec gather([{:py.name(), :py.name(), [term()]}]) :: :py.result([term()])
  def gather(calls), do: :py.async_gather(calls)
end
