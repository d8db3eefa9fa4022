defmodule HelpfulTest do
  use ExUnit.Case, async: false

  # What Elixir shows for an error of the Erlang module: Exception.format and Exception.blame read the same texts.
  defp shown(fun) do
    fun.()
    flunk("nothing was raised")
  catch
    :error, reason ->
      {Exception.normalize(:error, reason, __STACKTRACE__), Exception.format(:error, reason, __STACKTRACE__)}
  end

  test "a wrong argument is named" do
    {error, text} = shown(fn -> :py.call(:json, :loads, ["{}"], %{}, timeout: 50) end)
    assert %ArgumentError{} = error
    assert text =~ "5th argument: not a map of options; is it a keyword list?"
  end

  test "a context that has ended is named" do
    {:ok, context} = :py.bind(:new)
    :ok = :py.unbind(context)
    {error, text} = shown(fn -> :py.ctx_eval(context, "1") end)
    assert %ErlangError{original: :context_not_bound} = error
    assert text =~ "1st argument: the context has ended"
  end

  test "h prints the texts of the Erlang modules" do
    {:ok, _} = Application.ensure_all_started(:iex)
    text = ExUnit.CaptureIO.capture_io(fn -> IEx.Introspection.h({:py, :call, 5}) end)
    assert text =~ "Calls a Python function and returns its result."
    assert {:docs_v1, _, :erlang, _, _, _, _} = Code.fetch_docs(:py)
  end

  test "blame keeps the text" do
    try do
      :py.eval("1", %{}, %{poool: 1})
    rescue
      error ->
        {blamed, _} = Exception.blame(:error, error, __STACKTRACE__)
        assert Exception.message(blamed) =~ "the option poool does not exist"
    end
  end
end
