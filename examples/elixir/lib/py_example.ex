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
end
