//! Tasks, and the process they belong to.
//!
//! All tasks of Forest are spawned into a [`Tasks`], which ends them when it is dropped. In production that is
//! a plain set of tasks. The simulator runs many nodes and clients in one thread and has to stop one of them
//! the way a signal stops a process: in the middle of anything, for any time, without a word to it. So a task
//! that is spawned inside [`Process::run`] belongs to that process, with all that it spawns in its turn, and
//! is not polled while the process is frozen.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

tokio::task_local! {
    static CURRENT: Process;
}

/// Something that can be frozen and thawed as a whole. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Process {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    frozen: bool,
    /// Tasks that something woke while they were frozen.
    waiting: Vec<Waker>,
}

impl Process {
    /// From now on nothing of this process runs. What others do goes on, and so do the clocks.
    pub fn freeze(&self) {
        self.lock().frozen = true;
    }

    /// Everything goes on where it was.
    pub fn thaw(&self) {
        let waiting = {
            let mut state = self.lock();
            state.frozen = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Runs a future as a part of this process.
    pub async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(CURRENT.scope(self.clone(), future));
        poll_fn(|cx| match self.is_frozen(cx) {
            true => Poll::Pending,
            false => future.as_mut().poll(cx),
        })
        .await
    }

    fn is_frozen(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.frozen {
            state.waiting.push(cx.waker().clone());
        }
        state.frozen
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks of one owner, which end with it.
#[derive(Debug)]
pub struct Tasks<T>(JoinSet<T>);

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self(JoinSet::new())
    }
}

impl<T: Send + 'static> Tasks<T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task in the process that this is called in.
    pub fn spawn(&mut self, future: impl Future<Output = T> + Send + 'static) -> AbortHandle {
        match CURRENT.try_with(Process::clone) {
            Ok(process) => self.0.spawn(async move { process.run(future).await }),
            Err(_) => self.0.spawn(future),
        }
    }

    /// Whether none is there whose end has not been waited for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the next one to end; `None` if there is none. Cancel-safe.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.0.join_next().await
    }

    /// As [`join_next`](Self::join_next), with the id that the task's handle has.
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.0.join_next_with_id().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// A process whose grandchild task counts milliseconds.
    fn counting() -> (Process, Tasks<()>, Arc<AtomicU32>) {
        let (process, count) = (Process::default(), Arc::new(AtomicU32::new(0)));
        let (counter, owner) = (Arc::clone(&count), process.clone());
        let mut tasks = Tasks::new();
        tasks.spawn(async move {
            let run = async {
                let mut children = Tasks::new();
                children.spawn(async move {
                    loop {
                        sleep(Duration::from_millis(1)).await;
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                });
                children.join_next().await;
            };
            owner.run(run).await;
        });
        (process, tasks, count)
    }

    async fn counted(count: &AtomicU32) -> u32 {
        let before = count.load(Ordering::Relaxed);
        sleep(Duration::from_millis(10)).await;
        count.load(Ordering::Relaxed) - before
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_stands_still_with_all_its_tasks_and_goes_on_when_thawed() {
        let (process, _tasks, count) = counting();
        assert!(counted(&count).await >= 9);
        process.freeze();
        assert_eq!(counted(&count).await, 0);
        process.thaw();
        assert!(counted(&count).await >= 9);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_owner_ends_all_tasks_even_of_a_frozen_process() {
        let (process, tasks, count) = counting();
        process.freeze();
        drop(tasks);
        process.thaw();
        assert_eq!(counted(&count).await, 0);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
