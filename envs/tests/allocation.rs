//! A step of a multi-agent task, or of one with levels, takes no memory, nor does looking at its masks, central state and graph.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::{Graph, GraphShape, VecEnv, make_with};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: every call is handed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread while `work` is done.
fn count(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

const TASKS: &[(&str, &[(&str, &str)])] = &[
    ("particle/spread", &[]),
    ("particle/reference", &[("continuous", "true")]),
    ("particle/speaker-listener", &[]),
    ("particle/tag", &[("dialect", "v2")]),
    ("uav-bs/bs-std", &[]),
    ("uav-bs/bs-std", &[("action", "multi-discrete"), ("sight", "sampled"), ("fading", "rician")]),
    ("uav-bs/bs-std", &[("action", "hybrid"), ("altitude", "[50, 150]")]),
    ("uav-bs/bs-tiny", &[("action", "continuous")]),
    ("uav-bs/bs-dense", &[("mobility", "hot-spots")]),
    ("uav-bs/bs-jam", &[("action", "discrete")]),
    ("uav-trajectory/wu2018-1", &[]),
    ("uav-trajectory/wu2018-2", &[("action", "hybrid")]),
    ("uav-harvest", &[("uavs", "3")]),
    ("uav-harvest", &[("action", "continuous")]),
    ("hierarchy/tree", &[]),
    ("hierarchy/maze", &[]),
    ("hierarchy/maze", &[("loops", "0.5"), ("num_levels", "0"), ("distance", "9")]),
    ("hierarchy/key-door", &[]),
    ("hierarchy/key-door", &[("shape", "chain"), ("rooms", "6"), ("num_levels", "0")]),
    ("hierarchy/breakout", &[("bricks", "0.4"), ("num_levels", "50")]),
    ("hierarchy/asterix", &[]),
];

#[test]
fn no_step_allocates() {
    assert!(count(|| drop(vec![1])) > 0, "the counter counts");
    for (id, given) in TASKS {
        let mut env = make_with(id, given).unwrap();
        let spec = env.spec().clone();
        let (mut rng, mut choice) = (stream(0, Purpose::Check, 0), stream(0, Purpose::Check, 1));
        let (mut obs, mut reward) = (vec![0.0; spec.obs_len()], vec![0.0; spec.agents.len()]);
        let mut mask = vec![true; spec.mask_len()];
        let mut central = vec![0.0; spec.state_len];
        let graph = spec.graph.unwrap_or(GraphShape { node_len: 0, edge_len: 0 });
        let pairs = reward.len() * reward.len();
        let (mut nodes, mut adjacency) = (vec![0.0; reward.len() * graph.node_len], vec![false; pairs]);
        let mut edges = vec![0.0; pairs * graph.edge_len];
        for episode in 0..3 {
            let allocations = count(|| env.reset(&mut rng, &mut obs));
            assert_eq!(allocations, 0, "{id} {given:?}, reset {episode}");
            for t in 0..spec.max_steps.unwrap() {
                let mut action = Vec::new();
                spec.agents.iter().for_each(|a| a.action.sample(&[], &mut choice, &mut action));
                let mut over = false;
                let allocations = count(|| {
                    over = env.step(&action, &mut rng, &mut obs, &mut reward);
                    env.mask(&mut mask);
                    env.central_state(&mut central);
                    env.graph(Graph { nodes: &mut nodes, adjacency: &mut adjacency, edges: &mut edges });
                });
                assert_eq!(allocations, 0, "{id} {given:?}, step {t}");
                if over {
                    break;
                }
            }
        }
        // Copies: only what is noted of a finished episode takes memory.
        let mut envs = VecEnv::new(&|| make_with(id, given).unwrap(), 4, 0, Purpose::Check, 1);
        let actions = vec![0.0f32; 4 * spec.action_len()];
        let allocations = count(|| (0..spec.max_steps.unwrap() - 1).for_each(|_| envs.step(&actions)));
        assert!(!envs.take_episodes().is_empty() || allocations == 0, "{id} {given:?}, copies");
    }
}
