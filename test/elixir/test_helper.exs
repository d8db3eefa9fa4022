ExUnit.start(timeout: 60_000)

defmodule Py.Test do
  @moduledoc "Helpers of the tests."

  @doc "The number of leased workers, when no call is pending; a lease ends some time after its owner."
  def leased(deadline \\ System.monotonic_time(:millisecond) + 10_000) do
    case :py_pool.get_stats() do
      %{checked_out: 0, pending_requests: 0} ->
        0

      %{checked_out: leased} ->
        if System.monotonic_time(:millisecond) > deadline do
          leased
        else
          receive do
          after
            5 -> leased(deadline)
          end
        end
    end
  end
end
