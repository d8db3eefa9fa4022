defmodule Py do
  @moduledoc """
  Python from Elixir, with context affinity.

      iex> Py.eval("sum(xs)", locals: [xs: [1, 2, 3]])
      {:ok, 6}

      iex> Py.call!(:json, :dumps, [%{name: "Ann", day: ~D[2026-11-28]}], kwargs: [sort_keys: true])
      ~s({"day": "2026-11-28", "name": "Ann"})

      iex> Py.with_context(fn ->
      ...>   Py.exec!("total = 0")
      ...>   for n <- [1, 2, 3], do: Py.run!("total += n\\ntotal", locals: [n: n])
      ...> end)
      [1, 3, 6]

  A thin layer over the Erlang module `:py`, whose guide holds here as well. A call of a process that is
  not bound runs on any free worker, in a namespace of its own. `bind/1` gives the process a worker,
  `Py.Context.new/1` returns one behind a handle. Variables, imports and objects stay there from one call
  to the next.

  A function returns `{:ok, value}` or `{:error, reason}`; the same function with a bang returns the value
  or raises `Py.Error`, whose message is the traceback. Callbacks, coroutines and messages are in `:py`.

  ## Options

    * `timeout:` milliseconds, or `:infinity`; by default what `default_timeout` of the application says,
      30 seconds. The code is stopped when its time is over, and the result is `{:error, :timeout}`.
    * `locals:` variables for the code, a keyword list or a map, gone after the call
    * `kwargs:` keyword arguments of a function, a keyword list or a map
    * `context:` a `Py.Context`; by default the binding of the process, if it has one
    * `pool:` the name of a pool of `:py_pool`, for a process without a binding there; not with `context:`
    * `return:` `:object` keeps the value of `eval`, `run` and `call` in Python: the result is a `Py.Object`
    * `arrays:` `:binary` gives arrays of numpy as `{:ndarray, %{dtype: _, shape: _, data: _}}`, for `Nx`

  An unknown option, or a value of another kind, raises `ArgumentError`.

  ## Values

  As `docs/guide/types.md` says for Erlang, and for Elixir:

  | Elixir | Python | and back |
  |---|---|---|
  | `nil` | `None` | `nil` |
  | `Py.Object` | the object | `Py.Object`, as all objects without a form in Elixir |
  | `Date`, `Time`, `NaiveDateTime`, `DateTime` | `str`, ISO 8601 | text; `fromisoformat` of `datetime` reads it |
  | `MapSet`, `Range` | `list` | list |
  | another struct | `dict` of its fields, without `__struct__` | map with texts as keys |

  Values are looked through for these: pass very big lists of numbers to `:py`, which does not.

  ## The sigil

  `import Py, only: :sigils` brings `~PY`, for Elixir 1.15 and newer, and `~P`, the same for 1.14; see
  `sigil_PY/2`.
  """

  @typedoc "Name of a module or of a function, which may be dotted."
  @type name :: atom() | String.t()

  @typedoc "Python source."
  @type code :: String.t() | iodata()

  @typedoc "The result of a call; the reasons are those of `:py`."
  @type result :: {:ok, term()} | {:error, :py.error_reason()}

  # A name of several parts is looked up part by part, as that of a function of a module.
  @attribute "__import__('operator').attrgetter(name)(object)"

  @doc """
  Returns the value of an expression.

      iex> Py.eval("name.title()", locals: %{name: "ann lee"}, timeout: 5000)
      {:ok, "Ann Lee"}
      iex> {:error, {:NameError, %{message: message}}} = Py.eval("missing")
      iex> message
      "name 'missing' is not defined"
  """
  @spec eval(code(), keyword()) :: result()
  def eval(code, options \\ []) do
    options = Py.Options.call(options, [:locals, :return, :arrays])
    code |> evaluate(Map.get(options, :locals, %{}), options) |> Py.Value.decoded()
  end

  @doc "Returns the value of an expression as `eval/2` does, or raises `Py.Error`."
  @spec eval!(code(), keyword()) :: term()
  def eval!(code, options \\ []), do: code |> eval(options) |> Py.Error.value!()

  @doc """
  Runs statements, and returns the value of the last one; nil if it is no expression.

      iex> Py.run("import math\\nside = 2\\nmath.pow(side, 3)")
      {:ok, 8.0}
      iex> Py.run("x = 1")
      {:ok, nil}

  `file:` and `line:` say where the code begins, for tracebacks.
  """
  @spec run(code(), keyword()) :: result()
  def run(code, options \\ []) do
    options = Py.Options.call(options, [:locals, :file, :line, :return, :arrays])
    code |> run_block(options) |> Py.Value.decoded()
  end

  # Only the Erlang module `py_run` knows of places, and it has no forms of results.
  defp run_block(code, options) when is_map_key(options, :file) or is_map_key(options, :line),
    do: :py_run.run(code, options)

  defp run_block(code, %{context: context} = options),
    do: :py.ctx_run(context, code, Map.get(options, :locals, %{}), native(options, [:timeout]))

  defp run_block(code, options),
    do: :py.run(code, Map.get(options, :locals, %{}), native(options, [:timeout, :pool]))

  @doc "Runs statements as `run/2` does, and returns the value or raises `Py.Error`."
  @spec run!(code(), keyword()) :: term()
  def run!(code, options \\ []), do: code |> run(options) |> Py.Error.value!()

  @doc """
  Runs statements. Their assignments stay in the binding of the process, or in the context.

      iex> Py.exec("import os; os.environ['COLOUR'] = colour", locals: [colour: "blue"])
      :ok
  """
  @spec exec(code(), keyword()) :: :ok | {:error, :py.error_reason()}
  def exec(code, options \\ []) do
    options = Py.Options.call(options, [:locals])
    locals = Map.get(options, :locals, %{})

    case options do
      %{context: context, timeout: timeout} -> :py.ctx_exec(context, code, locals, timeout)
      %{context: context} -> :py.ctx_exec(context, code, locals)
      %{} -> :py.exec(code, locals, Map.take(options, [:timeout, :pool]))
    end
  end

  @doc "Runs statements as `exec/2` does, and returns `:ok` or raises `Py.Error`."
  @spec exec!(code(), keyword()) :: :ok
  def exec!(code, options \\ []), do: code |> exec(options) |> Py.Error.value!()

  @doc """
  Calls a function of a module, or a method of an object, which may be one of its attributes: `"a.b"`.

  The module is imported if need be; `:__main__` is the namespace of the binding or the context.

      iex> Py.call(:os, "path.join", ["a", "b"])
      {:ok, "a/b"}
      iex> {:ok, pi} = Py.call(:fractions, :Fraction, [314, 100])
      iex> {:ok, rounded} = Py.call(pi, :limit_denominator, [], kwargs: [max_denominator: 10])
      iex> Py.call(rounded, :__str__)
      {:ok, "22/7"}
  """
  @spec call(name() | Py.Object.t(), name(), [term()], keyword()) :: result()
  def call(module_or_object, function, args \\ [], options \\ [])

  def call(%Py.Object{ref: ref}, method, args, options), do: call(ref, method, args, options)

  def call(module, function, args, options) when is_list(args) do
    options = Py.Options.call(options, [:kwargs, :return, :arrays])
    args = Py.Value.encode(args)
    kwargs = Map.get(options, :kwargs, %{})

    Py.Value.decoded(
      case options do
        %{context: context} ->
          :py.ctx_call(context, module, function, args, kwargs, native(options, [:timeout]))

        %{} ->
          :py.call(module, function, args, kwargs, native(options, [:timeout, :pool]))
      end
    )
  end

  @doc "Calls as `call/4` does, and returns the value or raises `Py.Error`."
  @spec call!(name() | Py.Object.t(), name(), [term()], keyword()) :: term()
  def call!(module_or_object, function, args \\ [], options \\ []) do
    module_or_object |> call(function, args, options) |> Py.Error.value!()
  end

  @doc """
  Starts a call whose result is dropped. A failure is logged, as the event `:cast_failed`.

      iex> Py.cast(:gc, :freeze)
      :ok
      iex> Py.cast(:json, :dumps, [[1, 2]], kwargs: [indent: 2], timeout: 5000)
      :ok

  The call runs where `call/4` would run it, after the calls that the process has made there before. Without a
  binding the call outlives the process. `{:error, _}` is a cast that was refused, and has not run.
  """
  @spec cast(name(), name(), [term()], keyword()) :: :ok | {:error, :no_workers_available | :overloaded}
  def cast(module, function, args \\ [], options \\ []) when is_list(args) do
    options = Py.Options.call(options, [:kwargs])
    args = Py.Value.encode(args)
    kwargs = Map.get(options, :kwargs, %{})

    case options do
      %{context: context, timeout: timeout} -> :py.ctx_cast(context, module, function, args, kwargs, timeout)
      %{context: context} -> :py.ctx_cast(context, module, function, args, kwargs)
      %{} -> :py.cast(module, function, args, kwargs, Map.take(options, [:timeout, :pool]))
    end
  end

  @doc """
  Returns an attribute of an object, or an attribute of that: `"a.b"`.

      iex> third = Py.call!(:fractions, :Fraction, [1, 3])
      iex> Py.getattr(third, :denominator)
      {:ok, 3}
  """
  @spec getattr(Py.Object.t(), name(), keyword()) :: result()
  def getattr(%Py.Object{ref: ref}, name, options \\ []) do
    locals = %{object: ref, name: attribute(name)}
    @attribute |> evaluate(locals, Py.Options.call(options, [])) |> Py.Value.decoded()
  end

  @doc "Returns an attribute as `getattr/3` does, or raises `Py.Error`."
  @spec getattr!(Py.Object.t(), name(), keyword()) :: term()
  def getattr!(object, name, options \\ []), do: object |> getattr(name, options) |> Py.Error.value!()

  @doc """
  Calls a function, and returns its result and the text that was written meanwhile: by Python code that the
  process has called, and by the process itself.

      iex> Py.with_output(fn -> Py.run!("print('three')\\n1 + 2") end)
      {3, "three\\n"}
  """
  @spec with_output((() -> result)) :: {result, String.t()} when result: term()
  def with_output(fun) when is_function(fun, 0), do: :py.with_output(fun)

  @doc """
  Gives the calling process a worker of its own, until `unbind/0` or the end of the process.

  Waits `wait:` milliseconds for a free worker, by default 0, in the pool `pool:`, by default `:default`.
  A process that is bound keeps its worker, of whichever pool that is.

      iex> Py.bind()
      :ok
      iex> Py.exec("counter = 1")
      :ok
      iex> Py.eval("counter + 1")
      {:ok, 2}
      iex> Py.unbind()
      :ok
  """
  @spec bind(wait: timeout(), pool: atom()) :: :ok | {:error, :no_workers_available}
  def bind(options \\ []), do: options |> Keyword.validate!([:wait, :pool]) |> Map.new() |> :py.bind()

  @doc "Binds as `bind/1` does, and returns `:ok` or raises `Py.Error`."
  @spec bind!(wait: timeout(), pool: atom()) :: :ok
  def bind!(options \\ []), do: options |> bind() |> Py.Error.value!()

  @doc "Ends the binding of the calling process. Does nothing if it has none."
  @spec unbind() :: :ok
  def unbind, do: :py.unbind()

  @doc "Returns whether the calling process has a worker of its own."
  @spec bound?() :: boolean()
  def bound?, do: :py.is_bound()

  @doc """
  Calls a function with a worker of its own, and returns its result. The worker goes back however it ends.

  A function of no argument runs in the binding of the process, which is used and left as it was; a
  function of one argument gets a new `Py.Context`. The options are those of `bind/1`. Raises `Py.Error`
  when no worker is free.

      iex> Py.with_context(fn context ->
      ...>   Py.exec!("x = 20", context: context)
      ...>   Py.eval!("x + 1", context: context)
      ...> end)
      21
  """
  @spec with_context([wait: timeout(), pool: atom()], (Py.Context.t() -> result) | function()) :: result
        when result: term()
  def with_context(options \\ [], fun)

  def with_context(options, fun) when is_function(fun, 0) do
    if bound?() do
      fun.()
    else
      bind!(options)

      try do
        fun.()
      after
        unbind()
      end
    end
  end

  def with_context(options, fun) when is_function(fun, 1) do
    context = Py.Context.new!(options)

    try do
      fun.(context)
    after
      Py.Context.close(context)
    end
  end

  @doc """
  Runs Python statements, and returns the value of the last one, as `run!/2` does.

      import Py, only: :sigils

      names = ["Ann", "Bo"]

      ~PY\"""
      longest = max(names, key=len)
      f"{longest} of {len(names)}"
      \"""

  Variables of the Elixir code that the Python code looks up are passed to it, except those whose name
  begins with an underscore. Values go back by the result only, so that no variable appears from nowhere. Tracebacks
  have the lines of the Elixir file. In a process that is bound, Python's variables stay from one sigil
  to the next. Raises `Py.Error`.
  """
  defmacro sigil_PY(code, modifiers), do: sigil(code, modifiers, __CALLER__)

  @doc "The same as `sigil_PY/2`: the sigils of Elixir 1.14 have one letter."
  defmacro sigil_P(code, modifiers), do: sigil(code, modifiers, __CALLER__)

  defp sigil({:<<>>, meta, [code]}, [], env) when is_binary(code) do
    # The text of a heredoc begins on the line after the opening quotes.
    line = Keyword.get(meta, :line, env.line) + if Keyword.has_key?(meta, :indentation), do: 1, else: 0
    names = Regex.scan(~r/[\p{L}_][\p{L}\p{N}_]*/u, code) |> List.flatten() |> MapSet.new()

    # A variable of a macro has another context, and is not seen by the code.
    variables =
      for {name, nil} <- Macro.Env.vars(env),
          text = Atom.to_string(name),
          not String.starts_with?(text, "_") and text in names,
          do: {text, Macro.var(name, nil)}

    quote do
      unquote(__MODULE__).__sigil__(
        unquote(code),
        unquote({:%{}, [], variables}),
        unquote(Path.relative_to_cwd(env.file)),
        unquote(max(line, 1))
      )
    end
  end

  defp sigil(_code, modifiers, _env) do
    raise ArgumentError, "~PY takes text and no modifiers, got: #{inspect(modifiers)}"
  end

  @doc false
  def __sigil__(code, variables, file, line) do
    offered = Map.new(variables, fn {name, value} -> {name, Py.Value.encode(value)} end)
    options = %{offered: offered, file: file, line: line}
    code |> :py_run.run(options) |> Py.Value.decoded() |> Py.Error.value!()
  end

  defp evaluate(code, locals, %{context: context} = options),
    do: :py.ctx_eval(context, code, locals, native(options, [:timeout]))

  defp evaluate(code, locals, options), do: :py.eval(code, locals, native(options, [:timeout, :pool]))

  # The options that the Erlang module takes. The values of Elixir have nil for None.
  defp native(options, keys), do: options |> Map.take([:return, :arrays | keys]) |> Map.put(:none, nil)

  defp attribute(name) when is_atom(name), do: Atom.to_string(name)
  defp attribute(name) when is_binary(name), do: name
end
