//! Tests of the engine with a real Python, under a host without a BEAM.

mod interrupts;
mod looks;
mod support;

use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use py_engine::asyncio;
use py_engine::exception::Exception;
use py_engine::execute::{Request, execute, resolve};
use py_engine::interrupt::InterruptMask;
use py_engine::lock::lock;
use py_engine::namespace::Namespace;
use py_engine::python::code_cache::Mode;

use support::{Outcome, decode, eval_within, in_lease, register};

const SOON: Duration = Duration::from_millis(50);

fn bytes_of(source: &str) -> Vec<u8> {
    Python::attach(|py| {
        let value = py.eval(&std::ffi::CString::new(source).unwrap(), None, None);
        support::encode(&value.unwrap()).unwrap()
    })
}

#[test]
fn expressions_have_values() {
    in_lease(|lease| {
        assert_eq!(
            lease.repr("[1, 2.5, 'x', None, True, {'a': (1,)}]"),
            "[1, 2.5, 'x', None, True, {'a': (1,)}]"
        );
        assert_eq!(lease.repr("2 ** 70"), "1180591620717411303424");
    });
}

#[test]
fn statements_leave_variables_and_imports() {
    in_lease(|lease| {
        lease.exec("import json\nx = json.loads('[1, 2]')\ndef double(y):\n    return 2 * y");
        assert_eq!(lease.repr("double(x[1]) + len(json.dumps(x))"), "10");
    });
}

#[test]
fn a_lease_sees_nothing_of_another() {
    in_lease(|lease| lease.exec("secret = 1"));
    in_lease(|lease| {
        assert_eq!(
            lease.repr("secret"),
            "NameError: name 'secret' is not defined"
        );
    });
}

#[test]
fn classes_are_found_in_main() {
    in_lease(|lease| {
        lease.exec("import pickle\nclass P:\n    x = 3\ncopy = pickle.loads(pickle.dumps(P()))");
        assert_eq!(lease.repr("(copy.x, P.__module__)"), "(3, '__main__')");
    });
}

#[test]
fn locals_are_seen_by_the_expression_only() {
    in_lease(|lease| {
        lease.call(|_| {
            let locals = pyo3::types::PyDict::new(lease.py);
            locals.set_item("k", 3).unwrap();
            let request = Request::Run {
                mode: Mode::Eval,
                source: "[x * k for x in range(3)]",
                locals: Some(locals),
            };
            let values =
                execute::<Vec<i64>, PyErr>(&lease.namespace, request, |value| value.extract());
            assert_eq!(values.unwrap(), [0, 3, 6]);
        });
        assert_eq!(lease.repr("k"), "NameError: name 'k' is not defined");
    });
}

#[test]
fn functions_of_modules_are_called() {
    in_lease(|lease| {
        lease.call(|_| {
            let py = lease.py;
            let name = |text: &str| pyo3::types::PyString::new(py, text);
            let callable = resolve(&lease.namespace, &name("os"), &name("path.join")).unwrap();
            let request = Request::Call {
                callable,
                args: vec![name("a").into_any(), name("b").into_any()],
                kwargs: None,
            };
            let joined =
                execute::<String, PyErr>(&lease.namespace, request, |value| value.extract());
            assert_eq!(joined.unwrap(), "a/b");
            assert!(resolve(&lease.namespace, &name("no_such_module"), &name("f")).is_err());
        });
    });
}

#[test]
fn exceptions_are_captured_with_their_lines() {
    in_lease(|lease| {
        lease.exec("class Own(KeyError):\n    pass\ndef f():\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        raise Own('k') from e");
        let raised = lease.call(|_| {
            let request = Request::Run {
                mode: Mode::Eval,
                source: "f()",
                locals: None,
            };
            let error =
                execute::<Py<PyAny>, PyErr>(&lease.namespace, request, |value| Ok(value.unbind()));
            Exception::capture(lease.py, &error.unwrap_err()).unwrap()
        });
        assert_eq!(
            (raised.kind, raised.class.as_str()),
            ("KeyError", "__main__.Own")
        );
        let last = raised.frames.last().unwrap();
        assert_eq!((last.line, last.function.as_str()), (7, "f"));
        assert_eq!(
            last.source.as_deref(),
            Some("        raise Own('k') from e")
        );
        let cause = raised.cause.unwrap();
        assert!(cause.explicit);
        assert_eq!(cause.exception.kind, "ZeroDivisionError");
    });
}

#[test]
fn the_end_of_a_lease_runs_finalizers() {
    register("note_end", |args, _| {
        support::register("was_ended", move |_, _| Outcome::Value(args.clone()));
        Outcome::Value(bytes_of("None"))
    });
    in_lease(|lease| {
        lease.exec("import erlang\nclass E:\n    def __del__(self):\n        erlang.call('note_end', 'gone')\ne = E()");
    });
    in_lease(|lease| {
        lease.exec("import erlang");
        assert_eq!(lease.repr("erlang.call('was_ended')"), "['gone']");
    });
}

#[test]
fn erlang_functions_are_called() {
    register("echo", |args, _| Outcome::Value(args));
    register("fail", |_, _| Outcome::Failed("throw", bytes_of("'why'")));
    in_lease(|lease| {
        lease.exec("import erlang");
        assert_eq!(lease.repr("erlang.call('echo', 1, 'two')"), "[1, 'two']");
        assert_eq!(lease.repr("erlang.echo(3)"), "[3]");
        assert_eq!(
            lease.repr("erlang.call('nobody')"),
            "LookupError: no Erlang function is registered as 'nobody'"
        );
        assert_eq!(lease.repr("erlang.call('fail')"), "Exception: throw: 'why'");
        assert_eq!(lease.repr("erlang.self()"), "'the caller'");
        assert_eq!(lease.repr("erlang.send('box', [1])"), "None");
        assert_eq!(support::messages_for("box"), [bytes_of("[1]")]);
    });
}

#[test]
fn jobs_run_in_the_middle_of_a_call() {
    register("ask", |_, callback| match eval_within(callback, "x + 1") {
        Ok(value) => Outcome::Value(value),
        Err(text) => panic!("{text}"),
    });
    register("deep", |_, callback| {
        let value = eval_within(callback, "erlang.call('ask') * 10");
        Outcome::Value(value.unwrap())
    });
    in_lease(|lease| {
        lease.exec("import erlang\nx = 41");
        assert_eq!(lease.repr("erlang.call('ask')"), "42");
        assert_eq!(lease.repr("erlang.call('deep')"), "420");
    });
}

#[test]
fn a_job_that_comes_after_the_answer_is_refused() {
    register("late", |_, callback| {
        let callback = std::sync::Arc::clone(callback);
        std::thread::spawn(move || {
            std::thread::sleep(SOON);
            let refused = eval_within(&callback, "1");
            support::register("refusal", move |_, _| {
                assert_eq!(refused.as_ref().unwrap_err(), "Ended");
                Outcome::Value(bytes_of("'refused'"))
            });
        });
        Outcome::Value(bytes_of("1"))
    });
    in_lease(|lease| {
        lease.exec("import erlang, time\nerlang.call('late')\nwhile 'refusal' not in dir(erlang):\n    time.sleep(0.01)");
        assert_eq!(lease.repr("erlang.call('refusal')"), "'refused'");
    });
}

#[test]
fn coroutines_are_awaited_and_call_erlang_at_once() {
    register("slow", |args, _| {
        std::thread::sleep(Duration::from_millis(100));
        Outcome::Value(args)
    });
    in_lease(|lease| {
        lease.exec("import asyncio, erlang\nasync def both():\n    return await asyncio.gather(erlang.acall('slow', 1), erlang.acall('slow', 2))");
        let start = Instant::now();
        assert_eq!(lease.repr("1"), "1");
        assert_eq!(
            decode(lease.py, &lease.eval("both()").unwrap())
                .unwrap()
                .to_string(),
            "[[1], [2]]"
        );
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn tasks_go_on_between_calls() {
    in_lease(|lease| {
        lease.exec("import asyncio\nasync def work(n):\n    await asyncio.sleep(0.01)\n    return n * 2\nasync def fail():\n    raise ValueError('no')");
        lease.call(|host| {
            let _mask = InterruptMask::new(lease.py);
            for source in [c"work(4)", c"fail()"] {
                let globals = &lease.namespace.globals;
                let coroutine = lease.py.eval(source, Some(globals), None).unwrap();
                assert!(asyncio::is_coroutine(&coroutine));
                asyncio::begin(&coroutine, host).unwrap();
            }
        });
        assert!(lock(&lease.host.tasks).is_empty());
        let end = Instant::now() + Duration::from_secs(10);
        while lock(&lease.host.tasks).len() < 2 && Instant::now() < end {
            lease.call(|_| asyncio::run(lease.py, true)).unwrap();
        }
        let mut ended = lock(&lease.host.tasks).clone();
        ended.sort();
        assert_eq!(ended, [Ok(bytes_of("8")), Err("no".to_owned())]);
    });
}

#[test]
fn streams_bring_items_on_demand() {
    in_lease(|lease| {
        lease.exec("log = []\ndef items():\n    try:\n        for i in range(3):\n            log.append(i)\n            yield i\n    finally:\n        log.append('closed')\nasync def later():\n    yield 7\n    yield 8");
        let open = |id: u64, source: &std::ffi::CStr| {
            let globals = &lease.namespace.globals;
            let value = lease.py.eval(source, Some(globals), None).unwrap();
            asyncio::keep(&lease.namespace, id, asyncio::iterate(&value).unwrap());
        };
        let next = |id: u64, count: usize| {
            let items = asyncio::next_batch(&lease.namespace, id, count, &*lease.host).unwrap();
            items.map(|items| items.to_string())
        };
        lease.call(|_| open(1, c"items()"));
        assert_eq!(lease.repr("log"), "[]");
        assert_eq!(lease.call(|_| next(1, 2)).unwrap(), "[0, 1]");
        lease.call(|_| asyncio::close(&lease.namespace, 1));
        assert_eq!(lease.repr("log"), "[0, 1, 'closed']");
        lease.call(|_| open(2, c"later()"));
        assert_eq!(lease.call(|_| next(2, 9)).unwrap(), "[7, 8]");
        assert_eq!(lease.call(|_| next(2, 9)), None);
    });
}

#[test]
fn threads_of_a_lease_are_told_at_its_end() {
    in_lease(|lease| {
        let namespace = Namespace::enter(lease.py).unwrap();
        let host: std::sync::Arc<dyn py_engine::host::Host> = lease.host.clone();
        let source = "import threading\nevent = threading.Event()\nstarted = threading.Thread(target=event.wait, name='stays', daemon=True)\nstarted.start()\nimport sys\nsys._engine_event = event";
        let run = || {
            let request = Request::Run {
                mode: Mode::Exec,
                source,
                locals: None,
            };
            execute::<_, PyErr>(&namespace, request, |_| Ok(())).unwrap();
        };
        py_engine::call_stack::with_call(&host, &namespace, run);
        assert_eq!(namespace.leave_empty(), ["stays"]);
        lease.exec("import sys\nsys._engine_event.set()\ndel sys._engine_event");
    });
}
