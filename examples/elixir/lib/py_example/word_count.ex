defmodule PyExample.WordCount do
  @moduledoc """
  A server that keeps Python state: it holds a context, which ends with it.

  Code that gets stuck costs the context in the worst case. The next call then raises, and the supervisor
  starts the server again with a new one.
  """
  use GenServer

  @spec start_link(GenServer.options()) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, [], options)

  @doc "Counts the words of a text."
  @spec add(GenServer.server(), String.t()) :: :ok | {:error, :py.error_reason()}
  def add(server, text), do: GenServer.call(server, {:add, text})

  @doc "Returns how often a word was in all texts."
  @spec count(GenServer.server(), String.t()) ::
          {:ok, non_neg_integer()} | {:error, :py.error_reason()}
  def count(server, word), do: GenServer.call(server, {:count, word})

  @impl true
  def init([]) do
    with {:ok, context} <- Py.Context.new(wait: 5000),
         :ok <- Py.exec("from collections import Counter; words = Counter()", context: context) do
      {:ok, context}
    else
      {:error, reason} -> {:stop, reason}
    end
  end

  # The timeouts of Python are shorter than that of GenServer.call/2, which is 5 seconds.
  @impl true
  def handle_call({:add, text}, _from, context) do
    options = [context: context, locals: [text: text], timeout: 4000]
    {:reply, Py.exec("words.update(text.split())", options), context}
  end

  def handle_call({:count, word}, _from, context) do
    options = [context: context, locals: [word: word], timeout: 4000]
    {:reply, Py.eval("words[word]", options), context}
  end
end
