//! The asyncio tasks of a lease: of its jobs that have returned a coroutine. The worker of the lease adds
//! and removes them, the inspector looks at them. Used attached; the lock is held for one operation, and no
//! object is dropped under it.

use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::host::Host;
use crate::lock::lock;

/// A task, its coroutine, and the host that ends its job.
pub(crate) struct Task {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) task: Py<PyAny>,
    pub(crate) coroutine: Py<PyAny>,
}

#[derive(Default)]
pub(crate) struct TaskList(Mutex<Vec<Task>>);

impl TaskList {
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks().is_empty()
    }

    pub(crate) fn push(&self, task: Task) {
        self.tasks().push(task);
    }

    /// Removes the task of a host.
    pub(crate) fn remove(&self, host: &Arc<dyn Host>) -> Option<Task> {
        let mut tasks = self.tasks();
        let index = tasks.iter().position(|task| Arc::ptr_eq(&task.host, host));
        index.map(|index| tasks.swap_remove(index))
    }

    /// Returns the task whose host `matches` accepts.
    pub(crate) fn find(
        &self,
        py: Python<'_>,
        matches: impl Fn(&Arc<dyn Host>) -> bool,
    ) -> Option<Py<PyAny>> {
        let tasks = self.tasks();
        let task = tasks.iter().find(|task| matches(&task.host));
        task.map(|task| task.task.clone_ref(py))
    }

    pub(crate) fn take(&self) -> Vec<Task> {
        std::mem::take(&mut *self.tasks())
    }

    /// Returns the hosts and the coroutines of the tasks.
    pub(crate) fn coroutines<'py>(
        &self,
        py: Python<'py>,
    ) -> Vec<(Arc<dyn Host>, Bound<'py, PyAny>)> {
        let pair = |task: &Task| (Arc::clone(&task.host), task.coroutine.bind(py).clone());
        self.tasks().iter().map(pair).collect()
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        lock(&self.0)
    }
}
