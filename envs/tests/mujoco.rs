//! Parity of the MuJoCo tasks with MuJoCo 4.0.0 and 3.3.7 under Gymnasium 1.4.0 (`fixtures/mujoco_steps.py`): stage
//! by stage, step by step from injected states, and over rollouts.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod fixture;

use fixture::Fixture;
use steadfast_envs::mujoco::model::Solver;
use steadfast_envs::mujoco::tasks::{self, Task};
use steadfast_envs::mujoco::{Profile, Robot, Sim};
use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::state::Array;
use steadfast_envs::{Env, REGISTRY, State, make, make_with};

/// Largest difference, relative to the largest expected value or 1.
fn difference(ours: &[f64], expected: &[f64]) -> f64 {
    let scale = expected.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    elementwise(ours, expected, |_| scale)
}

/// Largest difference, each relative to its own expected value or 1.
fn difference_each(ours: &[f64], expected: &[f64]) -> f64 {
    elementwise(ours, expected, |x| x.abs().max(1.0))
}

fn elementwise(ours: &[f64], expected: &[f64], scale: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let d = ours.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale(*b));
    d.fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) })
}

/// Largest differences, by name.
#[derive(Default)]
struct Worst(Vec<(&'static str, f64)>);

impl Worst {
    fn note(&mut self, what: &'static str, d: f64) {
        match self.0.iter_mut().find(|(w, _)| *w == what) {
            Some((_, worst)) => *worst = worst.max(d),
            None => self.0.push((what, d)),
        }
    }

    fn at_most(&self, what: &str, limit: f64, context: &str) {
        for (_, d) in self.0.iter().filter(|(w, _)| *w == what) {
            assert!(*d <= limit, "{context}: {what} differs by {d:.1e}, more than {limit:.0e}");
        }
    }

    fn line(&self) -> String {
        self.0.iter().map(|(w, d)| format!("{w} {d:.1e}")).collect::<Vec<_>>().join(", ")
    }
}

/// Contacts and rows that a stage lists at most.
const CONTACTS: usize = 16;
const ROWS: usize = 48;

fn stages<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize>(
    f: &Fixture,
    task: &T,
    worst: &mut Worst,
) {
    let mut sim = Sim::new(T::model(), task.profile());
    let stages = f.rows("stage_bias");
    let every = f.rows("qpos").div_ceil(stages);
    for s in 0..stages {
        let k = s * every;
        if f.has("touch") && f.row("touch", k)[0] != 0.0 {
            continue;
        }
        sim.qpos.copy_from_slice(f.row("qpos", k));
        sim.qvel.copy_from_slice(f.row("qvel", k));
        sim.qacc_warmstart.copy_from_slice(f.row("qacc_warmstart", k));
        let action = f.row("action", k);
        sim.ctrl[..action.len()].copy_from_slice(action);
        sim.forward();
        let (mass, full) = (sim.mass(), f.row("stage_mass", s));
        worst.note("M", difference(mass.as_flattened(), full));
        worst.note("bias", difference(&sim.qfrc_bias, f.row("stage_bias", s)));
        worst.note("passive", difference(&sim.qfrc_passive, f.row("stage_passive", s)));
        worst.note("motors", difference(&sim.qfrc_actuator, f.row("stage_actuator", s)));
        worst.note("qacc_smooth", difference(&sim.qacc_smooth, f.row("stage_qacc_smooth", s)));
        let counts = f.row("stage_counts", s);
        assert_eq!(sim.contacts.len() as f64, counts[0], "{} stage {s}: contacts", T::ID);
        for (c, expected) in sim.contacts.iter().zip(f.row("stage_contacts", s).chunks(13)).take(CONTACTS) {
            let [t1, t2] = c.tangents;
            let ours = [&[c.dist][..], &c.pos, &c.normal, &t1, &t2].concat();
            worst.note("contacts", difference(&ours, expected));
        }
        // The rows of Pusher's object on its table are not among ours, and ours are sorted by islands.
        if T::ID != "Pusher-v5" && T::ID != "Reacher-v5" {
            let rows = sim.rows();
            assert_eq!(rows.len() as f64, counts[1], "{} stage {s}: rows", T::ID);
            let n = rows.len().min(ROWS);
            let column = |of: fn(&steadfast_envs::mujoco::constraint::Row<NV>) -> f64| {
                rows[..n].iter().map(of).collect::<Vec<f64>>()
            };
            worst.note("R", difference_each(&column(|r| r.softness), &f.row("stage_softness", s)[..n]));
            worst.note("aref", difference(&column(|r| r.aref), &f.row("stage_aref", s)[..n]));
            worst.note("force", difference(&column(|r| r.force), &f.row("stage_force", s)[..n]));
            // Newton's method may take one more step where it has converged to rounding; sweeps may not differ.
            if T::model().solver == Solver::Pgs {
                assert_eq!(sim.niter as f64, f.row("stage_iterations", s)[0], "{} stage {s}: sweeps", T::ID);
            }
        }
        worst.note("qacc", difference(&sim.qacc, f.row("stage_qacc", s)));
    }
}

fn put(state: &mut State, f: &Fixture, k: usize) {
    for name in ["qpos", "qvel", "qacc_warmstart"] {
        state.put_f64(name, f.row(name, k));
    }
}

/// Injects each state, steps, and compares state, observation, reward and ending.
fn steps<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize>(
    f: &Fixture,
    env: &mut Robot<T, NQ, NV, NB>,
    worst: &mut Worst,
) -> usize {
    let mut rng = stream(0, Purpose::Check, 0);
    let mut obs = vec![0.0; env.spec().obs_len()];
    let (mut terminations, mut touching) = (0, Vec::new());
    for k in 0..f.rows("qpos") {
        let mut state = State::new();
        put(&mut state, f, k);
        env.load(&state).unwrap();
        let mut reward = [0.0];
        let terminated = env.step(f.row("action", k), &mut rng, &mut obs, &mut reward);
        let ours = env.precise_obs().unwrap();
        if f.has("touch") && f.row("touch", k)[0] != 0.0 {
            worst.note("touching: qpos", difference(&env.sim().qpos, f.row("next_qpos", k)));
            worst.note("touching: qvel", difference(&env.sim().qvel, f.row("next_qvel", k)));
            worst.note("touching: reward", difference(&reward, f.row("reward", k)));
            touching.push(difference(&env.sim().qpos, f.row("next_qpos", k)));
            continue;
        }
        worst.note("qpos", difference(&env.sim().qpos, f.row("next_qpos", k)));
        worst.note("qvel", difference(&env.sim().qvel, f.row("next_qvel", k)));
        worst.note("warm start", difference(&env.sim().qacc_warmstart, f.row("next_qacc_warmstart", k)));
        if k < f.rows("obs") {
            // What an observation repeats of the state is not stored.
            let stored = f.row("obs", k);
            worst.note("obs", difference_each(&ours[ours.len() - stored.len()..], stored));
        }
        worst.note("reward", difference(&reward, f.row("reward", k)));
        assert_eq!(f64::from(u8::from(terminated)), f.row("terminated", k)[0], "{} state {k}", T::ID);
        assert!(obs.iter().zip(ours).all(|(x, y)| *x == *y as f32));
        terminations += usize::from(terminated);
    }
    assert_eq!(env.divergences(), 0);
    if !touching.is_empty() {
        touching.sort_by(f64::total_cmp);
        let n = touching.len();
        println!("{} touching: {n} steps, qpos differs by {:.1e} (median)", T::ID, touching[n / 2]);
        assert!(n >= 100 && touching[n / 2] < 1e-8);
    }
    terminations
}

fn rollouts<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize>(
    f: &Fixture,
    env: &mut Robot<T, NQ, NV, NB>,
    worst: &mut Worst,
) {
    let mut rng = stream(0, Purpose::Check, 0);
    let mut obs = vec![0.0; env.spec().obs_len()];
    for k in 0..f.rows("rollout_qpos") {
        let (qpos, qvel) = f.row("rollout_start", k).split_at(NQ);
        let mut state = State::new();
        state.put_f64("qpos", qpos);
        state.put_f64("qvel", qvel);
        state.put_f64("qacc_warmstart", &[0.0; NV]);
        env.load(&state).unwrap();
        let actions = f.row("rollout_action", k).chunks(env.spec().action_len());
        for (action, qpos) in actions.zip(f.row("rollout_qpos", k).chunks(NQ)) {
            env.step(action, &mut rng, &mut obs, &mut [0.0]);
            worst.note("rollout", difference(&env.sim().qpos, qpos));
        }
        worst.note("rollout", difference(&env.sim().qvel, f.row("rollout_end", k)));
    }
}

fn agrees<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize>() {
    for profile in Profile::ALL {
        let task = || T::of(T::ID, &[("profile", profile.name())]).unwrap();
        let f = Fixture::read(profile.name(), &T::ID.to_lowercase());
        let context = format!("{} {}", T::ID, profile.name());
        assert!(f.rows("qpos") >= 300, "{context} has only {} states", f.rows("qpos"));
        let mut worst = Worst::default();
        stages(&f, &task(), &mut worst);
        let mut env = Robot::new(task());
        let ends = steps(&f, &mut env, &mut worst);
        rollouts(&f, &mut env, &mut worst);
        println!("{context}: {} states, {ends} terminated; {}", f.rows("qpos"), worst.line());
        for what in ["M", "bias", "passive", "motors", "qacc_smooth", "contacts", "R", "aref"] {
            worst.at_most(what, 1e-12, &context);
        }
        for what in ["force", "qacc"] {
            worst.at_most(what, 1e-10, &context);
        }
        for what in ["qpos", "qvel", "warm start"] {
            worst.at_most(what, 1e-9, &context);
        }
        for what in ["obs", "reward"] {
            worst.at_most(what, 1e-8, &context);
        }
        worst.at_most("rollout", 1e-7, &context);
        for what in ["touching: qpos", "touching: qvel", "touching: reward"] {
            worst.at_most(what, 5e-3, &context);
        }
    }
}

#[test]
fn inverted_pendulum_agrees() {
    agrees::<tasks::InvertedPendulum, 2, 2, 3>();
}

#[test]
fn inverted_double_pendulum_agrees() {
    agrees::<tasks::InvertedDoublePendulum, 3, 3, 4>();
}

#[test]
fn reacher_agrees() {
    agrees::<tasks::Reacher, 4, 4, 5>();
}

#[test]
fn swimmer_agrees() {
    agrees::<tasks::Swimmer, 5, 5, 4>();
}

#[test]
fn hopper_agrees() {
    agrees::<tasks::Hopper, 6, 6, 5>();
}

#[test]
fn half_cheetah_agrees() {
    agrees::<tasks::HalfCheetah, 9, 9, 8>();
}

#[test]
fn walker2d_agrees() {
    agrees::<tasks::Walker2d, 9, 9, 8>();
}

#[test]
fn ant_agrees() {
    agrees::<tasks::Ant, 15, 14, 14>();
}

#[test]
fn humanoid_agrees() {
    agrees::<tasks::Humanoid, 24, 23, 14>();
}

#[test]
fn humanoid_standup_agrees() {
    agrees::<tasks::HumanoidStandup, 24, 23, 14>();
}

/// While the wrist touches the object only nearly: see the header of the task.
#[test]
fn pusher_agrees() {
    agrees::<tasks::Pusher, 11, 11, 13>();
}

type Registered = (&'static str, usize, Option<f64>, usize, usize, f64);

/// What Gymnasium registers: time limit, threshold, sizes, largest action.
const SPECS: [Registered; 11] = [
    ("InvertedPendulum-v5", 1000, Some(950.0), 4, 1, 3.0),
    ("InvertedDoublePendulum-v5", 1000, Some(9100.0), 9, 1, 1.0),
    ("Reacher-v5", 50, Some(-3.75), 10, 2, 1.0),
    ("Swimmer-v5", 1000, Some(360.0), 8, 2, 1.0),
    ("Hopper-v5", 1000, Some(3800.0), 11, 3, 1.0),
    ("HalfCheetah-v5", 1000, Some(4800.0), 17, 6, 1.0),
    ("Walker2d-v5", 1000, None, 17, 6, 1.0),
    ("Ant-v5", 1000, Some(6000.0), 105, 8, 1.0),
    ("Humanoid-v5", 1000, None, 348, 17, 0.4),
    ("HumanoidStandup-v5", 1000, None, 348, 17, 0.4),
    ("Pusher-v5", 100, Some(0.0), 23, 7, 2.0),
];

#[test]
fn the_specs_are_those_of_gymnasium() {
    for (id, max_steps, threshold, obs, action, largest) in SPECS {
        let env = make(id).unwrap();
        let spec = env.spec();
        assert_eq!((spec.max_steps, spec.reward_threshold), (Some(max_steps), threshold), "{id}");
        assert_eq!((spec.obs_len(), spec.action_len()), (obs, action), "{id}");
        let bounds = spec.agents[0].action.bounds();
        assert!(bounds.iter().all(|b| (b.0 + largest).abs() < 1e-7 && (b.1 - largest).abs() < 1e-7), "{id}");
    }
}

/// A step from the start with the same stream: observation and reward.
fn first_step(env: &mut dyn Env, action: f64) -> (Vec<f32>, f64) {
    let mut rng = stream(1, Purpose::Check, 0);
    let mut obs = vec![0.0; env.spec().obs_len()];
    env.reset(&mut rng, &mut obs);
    let mut reward = [0.0];
    env.step(&vec![action; env.spec().action_len()], &mut rng, &mut obs, &mut reward);
    (obs, reward[0])
}

#[test]
fn options_do_what_they_say() {
    let with = |id, given: &[(&str, &str)]| first_step(make_with(id, given).unwrap().as_mut(), 0.25);
    for (id, _, _, obs, ..) in SPECS {
        assert_eq!(with(id, &[]), first_step(make(id).unwrap().as_mut(), 0.25));
        for (key, more) in [
            ("exclude_current_positions_from_observation", 2 - usize::from("HW".contains(&id[..1]))),
            ("include_cfrc_ext_in_observation", 78),
            ("include_cinert_in_observation", 130),
            ("include_cvel_in_observation", 78),
            ("include_qfrc_actuator_in_observation", 17),
        ] {
            let Ok(mut env) = make_with(id, &[(key, "false")]) else { continue };
            let humanoid = id.starts_with("Humanoid");
            let excluded = key.starts_with("exclude");
            let expected = if excluded { obs + if humanoid { 2 } else { more } } else { obs - more };
            assert_eq!(first_step(env.as_mut(), 0.0).0.len(), expected, "{id} {key}");
        }
    }
    // Six actions of 1/4 at another weight.
    let cost = with("HalfCheetah-v5", &[]).1 - with("HalfCheetah-v5", &[("ctrl_cost_weight", "1.1")]).1;
    assert!((cost - 6.0 / 16.0).abs() < 1e-6, "{cost}");
    // The older generation reaches for the ground later.
    let profiles = ["mujoco-4.0", "mujoco-3.3"].map(|p| with("Ant-v5", &[("profile", p)]).0);
    assert_ne!(profiles[0], profiles[1]);
    // A floor far above, and an end that is not asked for.
    let fallen = [("healthy_z_range", "[5, 6]"), ("terminate_when_unhealthy", "false")];
    for id in ["Ant-v5", "Hopper-v5", "Walker2d-v5", "Humanoid-v5"] {
        let ends = |given: &[(&str, &str)]| {
            let mut env = make_with(id, given).unwrap();
            let mut rng = stream(1, Purpose::Check, 0);
            let mut obs = vec![0.0; env.spec().obs_len()];
            env.reset(&mut rng, &mut obs);
            env.step(&vec![0.0; env.spec().action_len()], &mut rng, &mut obs, &mut [0.0])
        };
        assert_eq!((ends(&[]), ends(&fallen[..1]), ends(&fallen)), (false, true, false), "{id}");
    }
    let still = with("Swimmer-v5", &[("reset_noise_scale", "0"), ("frame_skip", "1")]).0;
    assert!(still[..3].iter().all(|x| x.abs() < 1e-2), "{still:?}");
}

#[test]
fn bad_options_are_named() {
    let error = |id, key, value| make_with(id, &[(key, value)]).err().unwrap().to_string();
    let message = error("Ant-v5", "ctrl_cost", "1");
    assert!(message.contains("no option 'ctrl_cost'; did you mean 'ctrl_cost_weight'?"), "{message}");
    let message = error("Hopper-v5", "profile", "mujoco-2.0");
    assert_eq!(message, "Hopper-v5: option 'profile' takes mujoco-4.0 or mujoco-3.3, not 'mujoco-2.0'");
    assert!(error("Pendulum-v1", "g", "9.81").contains("Pendulum-v1 has no options"));
    assert!(error("Antt-v5", "profile", "x").contains("did you mean 'Ant-v5'"));
}

#[test]
fn every_option_takes_its_default_and_is_documented() {
    for entry in REGISTRY {
        let options = (entry.options)(&[]).unwrap();
        let family = ["particle/", "uav-", "-v5/", "hierarchy/"].iter().any(|part| entry.id.contains(part));
        let has_options = family || SPECS.iter().any(|s| s.0 == entry.id);
        assert_eq!(options.is_empty(), !has_options, "{}", entry.id);
        let given: Vec<(&str, &str)> = options.iter().map(|o| (o.key, o.value.as_str())).collect();
        assert_eq!((entry.options)(&given).as_ref(), Ok(&options), "{}", entry.id);
        assert_eq!((entry.maker)(&given).ok().unwrap()().spec(), (entry.make)().spec());
        assert!(options.iter().all(|o| o.doc.ends_with('.') && !o.takes.is_empty()));
    }
}

#[test]
fn an_action_that_is_no_number_spoils_the_reward_and_nothing_else() {
    for (id, ..) in SPECS {
        let mut env = make(id).unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let (obs, reward) = first_step(env.as_mut(), bad);
            assert!(reward.is_nan() && obs.iter().all(|x| x.is_finite()), "{id}");
            assert!(first_step(env.as_mut(), 0.1).1.is_finite(), "{id}");
        }
    }
}

#[test]
fn a_simulation_that_runs_away_starts_over_and_is_counted() {
    for (id, ..) in SPECS {
        let mut env = make(id).unwrap();
        first_step(env.as_mut(), 0.0);
        let mut saved = State::new();
        env.save(&mut saved);
        let nv = saved.iter().find(|(name, _)| *name == "qvel").map(|(_, a)| match a {
            Array::F64(v) => v.len(),
            _ => 0,
        });
        saved.put_f64("qvel", &vec![1e11; nv.unwrap()]);
        env.load(&saved).unwrap();
        let mut obs = vec![f32::NAN; env.spec().obs_len()];
        let mut reward = [f64::NAN];
        env.step(
            &vec![0.1; env.spec().action_len()],
            &mut stream(0, Purpose::Check, 0),
            &mut obs,
            &mut reward,
        );
        assert_eq!(env.divergences(), 1, "{id}");
        assert!(obs.iter().all(|x| x.is_finite()) && reward[0].is_finite(), "{id}");
        // The count is part of what is saved.
        let mut after = State::new();
        env.save(&mut after);
        let mut other = make(id).unwrap();
        other.load(&after).unwrap();
        assert_eq!(other.divergences(), 1, "{id}");
    }
}

#[test]
fn loading_keeps_the_warm_start_and_refuses_holes() {
    for (id, ..) in SPECS {
        let mut env = make(id).unwrap();
        first_step(env.as_mut(), 0.2);
        let mut saved = State::new();
        env.save(&mut saved);
        let mut other = make(id).unwrap();
        other.load(&saved).unwrap();
        let mut again = State::new();
        other.save(&mut again);
        assert_eq!(saved, again, "{id}");
        // Without the place of the last evaluation: that of the state.
        let mut bare = State::new();
        for name in ["qpos", "qvel", "qacc_warmstart"] {
            if let Some((_, array)) = saved.iter().find(|(n, _)| *n == name) {
                bare.put(name, array.clone());
            }
        }
        other.load(&bare).unwrap();
        let nv = match bare.iter().find(|(n, _)| *n == "qvel") {
            Some((_, Array::F64(v))) => v.len(),
            _ => 0,
        };
        bare.put_f64("qvel", &vec![f64::NAN; nv]);
        let error = other.load(&bare).unwrap_err().to_string();
        assert!(error.contains("'qvel'") && error.contains("NaN"), "{error}");
    }
}

/// The policy of `fixtures/mujoco_returns.py`.
fn policy(obs: &[f32], t: usize, high: &[f64]) -> Vec<f64> {
    let act = |(i, high): (usize, &f64)| {
        let feedback: f64 = obs[..obs.len().min(27)]
            .iter()
            .enumerate()
            .map(|(j, x)| (7.0 * i as f64 + 3.0 * j as f64).sin() * f64::from(*x).clamp(-2.0, 2.0))
            .sum();
        let swing = (0.1 * t as f64 * (1 + i % 3) as f64 + i as f64).sin();
        f64::from((high * (0.5 * swing + 0.5 * (0.5 * feedback).tanh())) as f32)
    };
    high.iter().enumerate().map(act).collect()
}

/// Mean and standard deviation of the returns of the policy, and mean length, from `seeds` seeds.
fn returns(id: &str, seeds: u64, steps: usize) -> (f64, f64, f64) {
    let mut env = make(id).unwrap();
    let spec = env.spec().clone();
    let high: Vec<f64> = spec.agents[0].action.bounds().iter().map(|b| b.1).collect();
    let steps = steps.min(spec.max_steps.unwrap());
    let mut obs = vec![0.0; spec.obs_len()];
    let (mut returns, mut lengths) = (Vec::new(), 0);
    for seed in 0..seeds {
        let mut rng = stream(seed, Purpose::Check, 0);
        env.reset(&mut rng, &mut obs);
        let (mut total, mut reward, mut t, mut over) = (0.0, [0.0], 0, false);
        while !over && t < steps {
            over = env.step(&policy(&obs, t, &high), &mut rng, &mut obs, &mut reward);
            total += reward[0];
            t += 1;
        }
        returns.push(total);
        lengths += t;
    }
    let n = seeds as f64;
    let mean = returns.iter().sum::<f64>() / n;
    let variance = returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / (n - 1.0);
    (mean, variance.sqrt(), lengths as f64 / n)
}

/// Resets and everything that follows them: the mean return is Gymnasium's, within three standard errors.
#[test]
fn a_fixed_policy_earns_what_it_earns_in_gymnasium() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mujoco_returns.json");
    let about: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let steps = about["steps"].as_u64().unwrap() as usize;
    let check = |id: &'static str| {
        let theirs = &about["tasks"][id];
        let number = |key: &str| theirs[key].as_f64().unwrap();
        let seeds = theirs["seeds"].as_u64().unwrap();
        let (mean, std, length) = returns(id, seeds, steps);
        let error = ((std * std + number("std").powi(2)) / seeds as f64).sqrt();
        let z = (mean - number("mean")) / error.max(1e-12);
        println!(
            "{id}: {mean:.4} ± {std:.4}, length {length:.1}; Gymnasium {:.4} ± {:.4}, length {:.1}; {z:.2} standard errors",
            number("mean"),
            number("std"),
            number("length_mean")
        );
        assert!(z.abs() <= 3.0, "{id} is {z:.2} standard errors away");
    };
    std::thread::scope(|scope| {
        for (id, ..) in SPECS {
            scope.spawn(move || check(id));
        }
    });
}
