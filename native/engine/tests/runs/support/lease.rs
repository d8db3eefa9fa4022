//! Starts Python once, and gives a test a lease on a thread of its own.

use super::*;

/// Starts the interpreter and the interrupter at the first call.
fn started() {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        start(&python, Arc::new(TestHost::default()))?;
        let threads = || lock(&world().threads).clone();
        start_interrupter(threads).map_err(|error| error.to_string())
    };
    STARTED.get_or_init(start).clone().unwrap();
}

/// A lease on the calling thread, in which a test runs code.
pub(crate) struct Lease<'py> {
    pub(crate) py: Python<'py>,
    pub(crate) namespace: Rc<Namespace<'py>>,
    pub(crate) host: Arc<TestHost>,
    pub(crate) thread: Arc<Thread>,
}

/// Runs `test` in a new lease, on a new thread, and passes its panic on.
pub(crate) fn in_lease(test: impl FnOnce(&Lease<'_>) + Send + 'static) {
    started();
    let worker = thread::spawn(move || {
        Python::attach(|py| {
            child_threads::listen();
            let thread = Thread::enter();
            thread.begin();
            lock(&world().threads).push(Arc::clone(&thread));
            let lease = Lease {
                py,
                namespace: Namespace::enter(py).unwrap(),
                host: Arc::default(),
                thread: Arc::clone(&thread),
            };
            test(&lease);
            thread.end(py.into());
            py_engine::asyncio::close_all(&lease.namespace);
            lease.namespace.leave_empty();
            lock(&world().threads).retain(|other| !Arc::ptr_eq(other, &thread));
        });
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lease<'_> {
    fn dyn_host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host) as Arc<dyn Host>
    }

    /// Returns the value of an expression.
    pub(crate) fn eval(&self, source: &str) -> Result<Bytes, String> {
        run_in(
            self.py,
            &self.dyn_host(),
            &self.namespace,
            Mode::Eval,
            source,
        )
    }

    /// Returns the `repr` of the value of an expression, or the text of its exception.
    pub(crate) fn repr(&self, source: &str) -> String {
        match self.eval(&format!("repr({source})")) {
            Ok(bytes) => decode(self.py, &bytes).unwrap().extract().unwrap(),
            Err(text) => text,
        }
    }

    /// Runs statements, which must not fail.
    pub(crate) fn exec(&self, source: &str) {
        run_in(
            self.py,
            &self.dyn_host(),
            &self.namespace,
            Mode::Exec,
            source,
        )
        .unwrap();
    }

    /// Runs `body` as a call of this lease.
    pub(crate) fn call<T>(&self, body: impl FnOnce(&Arc<dyn Host>) -> T) -> T {
        let host = self.dyn_host();
        let body = || self.namespace.run(|| body(&host));
        with_call(&host, &self.namespace, body).0
    }

    /// Interrupts the thread of the lease from another one, after `time`.
    pub(crate) fn interrupt_after(&self, time: Duration) {
        let thread = Arc::clone(&self.thread);
        let host = Arc::clone(&self.host);
        thread::spawn(move || {
            thread::sleep(time);
            host.must_stop.store(true, Ordering::SeqCst);
            while !thread.request(thread.loop_waker().as_ref()) {}
            notify_interrupter();
        });
    }
}

pub(super) fn run_in(
    py: Python<'_>,
    host: &Arc<dyn Host>,
    namespace: &Rc<Namespace<'_>>,
    mode: Mode,
    source: &str,
) -> Result<Bytes, String> {
    let request = Request::Run {
        mode,
        source,
        locals: None,
    };
    let run = || {
        let encode = |value| encode(&py_engine::asyncio::settle(value)?);
        execute::<_, PyErr>(namespace, request, encode)
    };
    let (done, _) = with_call(host, namespace, || namespace.run(run));
    done.map_err(|error| match Exception::capture(py, &error) {
        Ok(exception) => format!("{}: {}", exception.kind, exception.message),
        Err(_) => "interrupted".to_owned(),
    })
}
