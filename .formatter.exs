[inputs: ["mix.exs", ".formatter.exs", "lib/**/*.ex", "test/elixir/**/*.exs"], line_length: 110]
