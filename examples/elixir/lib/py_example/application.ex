defmodule PyExample.Application do
  @moduledoc "Starts a server with Python state under a supervisor."
  use Application

  @impl true
  def start(_type, _args) do
    children = [{PyExample.WordCount, name: PyExample.WordCount}]
    Supervisor.start_link(children, strategy: :one_for_one, name: PyExample.Supervisor)
  end
end
