defmodule PyExample.MixProject do
  use Mix.Project

  def project do
    [
      app: :py_example,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:erlang_python, path: "../.."}]
    ]
  end

  # The dependency is started before this application, as Mix does for every one.
  def application do
    [mod: {PyExample.Application, []}, extra_applications: [:logger]]
  end
end
