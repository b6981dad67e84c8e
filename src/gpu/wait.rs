//! The one module that blocks. Everything else completes by callback, so that the core runs in a browser and inside a host's frame.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::Gpu;
use crate::error::Result;

/// How often this process has blocked on a device: a guest must not increase it.
static WAITS: AtomicU64 = AtomicU64::new(0);

/// Number of blocking waits so far.
pub fn waits() -> u64 {
    WAITS.load(Ordering::Relaxed)
}

/// Waits until everything submitted so far has run and its callbacks were called.
pub fn for_device(gpu: &Gpu) -> Result<()> {
    WAITS.fetch_add(1, Ordering::Relaxed);
    let polled = gpu.device().poll(wgpu::PollType::wait_indefinitely());
    gpu.check()?;
    polled.map(drop).map_err(|e| gpu.failed(format!("waiting for {} failed: {e}", gpu.info().name)))
}

/// Polls the device without blocking and runs the callbacks of finished work.
pub fn look(gpu: &Gpu) -> Result<()> {
    let polled = gpu.device().poll(wgpu::PollType::Poll);
    gpu.check()?;
    polled.map(drop).map_err(|e| gpu.failed(format!("polling {} failed: {e}", gpu.info().name)))
}

/// Waits until one submit has run.
pub fn for_submit(gpu: &Gpu, index: &wgpu::SubmissionIndex) -> Result<()> {
    WAITS.fetch_add(1, Ordering::Relaxed);
    let polled = gpu.device().poll(wgpu::PollType::Wait { submission_index: Some(index.clone()), timeout: None });
    gpu.check()?;
    polled.map(drop).map_err(|e| gpu.failed(format!("waiting for {} failed: {e}", gpu.info().name)))
}

/// Completes when everything submitted so far has run and its callbacks were called.
pub(crate) async fn submitted_work(gpu: &Gpu) -> Result<()> {
    let done = Signal::new();
    let sender = done.clone();
    gpu.queue().on_submitted_work_done(move || sender.send(()));
    done.await;
    gpu.check()
}

/// Lets other threads run for a millisecond.
pub(crate) fn a_moment() {
    std::thread::sleep(std::time::Duration::from_millis(1));
}

/// Runs a future to completion, polling the device while it is pending.
pub fn block_on<T>(gpu: &Gpu, future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        for_device(gpu)?;
    }
}

/// A value that a callback sends once and a future receives.
pub struct Signal<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Signal<T> {
        Signal(self.0.clone())
    }
}

impl<T> Default for Signal<T> {
    fn default() -> Signal<T> {
        Signal::new()
    }
}

impl<T> Signal<T> {
    pub(crate) fn new() -> Signal<T> {
        Signal(Arc::new(Mutex::new((None, None))))
    }

    /// Whether no value was sent and this is the last clone, so that none can be.
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.lock().unwrap_or_else(|e| e.into_inner()).0.is_none()
    }

    pub(crate) fn send(&self, value: T) {
        let mut state = self.0.lock().unwrap_or_else(|e| e.into_inner());
        state.0 = Some(value);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    /// Takes the value out, if it was sent.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).0.take()
    }

    /// Copies the value, if it was sent, and leaves it there.
    pub fn peek(&self) -> Option<T>
    where
        T: Copy,
    {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).0
    }
}

impl<T> std::fmt::Debug for Signal<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signal")
    }
}

impl<T> Future for Signal<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock().unwrap_or_else(|e| e.into_inner());
        match state.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
