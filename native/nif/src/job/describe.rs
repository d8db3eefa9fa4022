//! What a job runs, in a few words, for `py:dump`. Called on dirty schedulers, also while a worker reads the
//! job.
//!
//! The environment of the job belongs to the worker: the terms that are read here are copied first, since a
//! look at a binary may add to the environment that it is in.

use rustler::types::tuple::get_tuple;
use rustler::{Env, Term};

use super::Job;
use crate::atoms;

/// Most characters of a source or a name.
const MAX_CHARACTERS: usize = 80;

impl Job {
    /// Returns what the job runs: `math.sqrt(...)`, or `eval: ` and the beginning of the source. `env` is the
    /// environment of the calling process.
    pub(crate) fn describe(&self, env: Env<'_>) -> String {
        self.env.run(|job_env| {
            let (_, job, _) = self.request(job_env);
            describe(job, env).unwrap_or_else(|| "something".to_owned())
        })
    }
}

fn describe(job: Term<'_>, env: Env<'_>) -> Option<String> {
    if atoms::empty() == job {
        return Some("nothing".to_owned());
    }
    let text = |term: Term<'_>| text(term.in_env(env));
    let elements = get_tuple(job).ok()?;
    match *elements {
        [tag, module, function, ..] if atoms::call() == tag => {
            let module = text(module).unwrap_or_else(|| "object".to_owned());
            Some(format!("{module}.{}(...)", text(function)?))
        }
        [tag, source, _] if atoms::eval() == tag => Some(format!("eval: {}", text(source)?)),
        [tag, source, _] if atoms::exec() == tag => Some(format!("exec: {}", text(source)?)),
        [tag, source, _] if atoms::run() == tag => Some(format!("run: {}", text(source)?)),
        [tag, _, job] if atoms::form() == tag => describe(job, env),
        [tag, _, source] if atoms::open() == tag => {
            Some(format!("stream of {}", describe(source, env)?))
        }
        [tag, _] if atoms::next() == tag => Some("next items of a stream".to_owned()),
        [tag, _] if atoms::object() == tag => Some("an object".to_owned()),
        [tag, source] if atoms::collect() == tag || atoms::async_() == tag => describe(source, env),
        _ => None,
    }
}

/// Returns the beginning of an atom or of a binary.
fn text(term: Term<'_>) -> Option<String> {
    match term.atom_to_string() {
        Ok(name) => Some(short(&name)),
        Err(_) => term.decode().ok().map(short),
    }
}

/// Returns the beginning of a text, on one line.
fn short(text: &str) -> String {
    let line = text.trim().replace(['\n', '\r'], " ");
    let mut letters = line.chars();
    let beginning: String = letters.by_ref().take(MAX_CHARACTERS).collect();
    if letters.next().is_some() {
        return beginning + "...";
    }
    beginning
}
