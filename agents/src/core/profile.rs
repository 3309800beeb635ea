//! Where the time of a training goes. Off unless started; it never touches a result.
//!
//! The calling thread is in one stage at a time and says when it enters the next. The clock belongs to the
//! thread, as in a profiler, so that no algorithm passes it around.

use std::cell::Cell;
use std::time::Instant;

/// What a training does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Steps of the environments.
    Environment,
    /// Acting: normalisation, the policy's network, sampling.
    Inference,
    /// Values and generalised advantages of a batch.
    Advantages,
    /// Everything that moves parameters, and the metrics after it.
    Update,
    /// Evaluation episodes.
    Evaluation,
    /// Rows, checkpoints and progress.
    Recording,
}

/// Number of stages.
pub const STAGES: usize = 6;

thread_local! {
    static RUNNING: Cell<Option<(Instant, Stage)>> = const { Cell::new(None) };
    static SECONDS: Cell<[f64; STAGES]> = const { Cell::new([0.0; STAGES]) };
}

/// Starts the calling thread's clock, in `stage`.
pub fn start(stage: Stage) {
    SECONDS.set([0.0; STAGES]);
    RUNNING.set(Some((Instant::now(), stage)));
}

/// The calling thread leaves its stage for another.
#[inline]
pub fn enter(stage: Stage) {
    if let Some((since, left)) = RUNNING.get() {
        let now = Instant::now();
        let mut seconds = SECONDS.get();
        seconds[left as usize] += (now - since).as_secs_f64();
        SECONDS.set(seconds);
        RUNNING.set(Some((now, stage)));
    }
}

/// Seconds of each stage, in the order of [`Stage`], since the clock was started; `None` if it was not.
pub fn seconds() -> Option<[f64; STAGES]> {
    let (_, stage) = RUNNING.get()?;
    enter(stage);
    Some(SECONDS.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stages_add_up_and_a_stopped_clock_stays_silent() {
        enter(Stage::Update);
        assert_eq!(seconds(), None);
        start(Stage::Recording);
        let begun = Instant::now();
        for _ in 0..2 {
            enter(Stage::Update);
            std::thread::sleep(Duration::from_millis(3));
            enter(Stage::Environment);
        }
        let (found, wall) = (seconds().unwrap(), begun.elapsed().as_secs_f64());
        assert!(found[Stage::Update as usize] >= 0.006);
        assert_eq!(found[Stage::Evaluation as usize], 0.0);
        assert!((found.iter().sum::<f64>() - wall).abs() < 2e-3, "{found:?} of {wall}");
        assert_eq!(std::thread::spawn(seconds).join().unwrap(), None, "one clock a thread");
    }
}
