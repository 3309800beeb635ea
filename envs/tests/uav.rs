//! The UAV tasks: physics that must hold whatever the policy, masks, bounds, comparators, impossible scenarios.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::uav::radio::{self, IDLE};
use steadfast_envs::uav::{Bs, BsOptions, energy};
use steadfast_envs::{Env, Rng, State, VecEnv, check, compare, make_with};

const PRESETS: [&str; 4] = ["uav-bs/bs-tiny", "uav-bs/bs-std", "uav-bs/bs-dense", "uav-bs/bs-jam"];

fn bs(id: &str, given: &[(&str, &str)]) -> Bs {
    Bs::new(id, BsOptions::given(id, given).unwrap())
}

/// A joint action that the mask allows.
fn allowed(env: &dyn Env, rng: &mut Rng) -> Vec<f64> {
    let spec = env.spec();
    let mut mask = vec![false; spec.mask_len()];
    if spec.masked {
        env.mask(&mut mask);
    }
    let (mut action, mut rest) = (Vec::new(), mask.as_slice());
    for agent in &spec.agents {
        let flags = if spec.masked { agent.action.choices().iter().sum() } else { 0 };
        let (own, others) = rest.split_at(flags);
        rest = others;
        agent.action.sample(own, rng, &mut action);
    }
    action
}

/// The value of one of the numbers that [`Env::info`] tells.
fn told(env: &dyn Env, name: &str) -> f64 {
    env.info().into_iter().find(|(n, _)| *n == name).unwrap().1
}

/// Plays an episode of allowed random actions and looks at every slot.
fn play(env: &mut Bs, seed: u64, mut look: impl FnMut(&Bs, &[f64], &[f64])) {
    let (mut rng, mut choice) = (stream(seed, Purpose::Check, 0), stream(seed, Purpose::Check, 1));
    let (mut obs, mut reward) = (vec![0.0; env.spec().obs_len()], vec![0.0; env.spec().agents.len()]);
    env.reset(&mut rng, &mut obs);
    for _ in 0..env.options().steps.0 {
        let action = allowed(env, &mut choice);
        let over = env.step(&action, &mut rng, &mut obs, &mut reward);
        look(env, &action, &reward);
        if over {
            break;
        }
    }
}

#[test]
fn every_option_of_the_channel_and_the_actions_passes_the_conformance_checks() {
    let small = [("steps", "40")];
    for action in ["motion", "discrete", "multi-discrete", "continuous", "hybrid"] {
        for more in [
            vec![("altitude", "[50, 150]"), ("sight", "sampled"), ("fading", "rician")],
            vec![
                ("surroundings", "umi"),
                ("sight", "sampled"),
                ("fading", "rayleigh"),
                ("mobility", "hot-spots"),
            ],
            vec![("order", "nearest"), ("observed", "5"), ("show_id", "true"), ("mobility", "waypoint")],
            vec![("half_beam", "50"), ("jammer", "true"), ("crash", "true"), ("steering", "velocity")],
        ] {
            let given = [small.as_slice(), &[("action", action)], &more].concat();
            for result in check::check(&|| Box::new(bs("uav-bs/bs-std", &given))) {
                assert_eq!(result.outcome, Ok(()), "{given:?}: {}", result.name);
            }
        }
    }
}

#[test]
fn powers_servers_and_rates_keep_their_bounds_in_every_slot() {
    for id in PRESETS {
        for action in ["motion", "multi-discrete", "continuous", "hybrid"] {
            let mut env = bs(id, &[("action", action), ("steps", "30")]);
            let (n, k) = (env.options().subchannels.0, env.options().users.0);
            let reference = env.options().reference_rate();
            let mean_bound = env.options().hover_bound() * reference;
            let mut sent = 0.0;
            play(&mut env, 3, |env, _, _| {
                let mut server = vec![IDLE; k];
                for (i, (served, powers)) in env.served().chunks(n).zip(env.powers().chunks(n)).enumerate() {
                    assert!(
                        powers.iter().sum::<f64>() <= env.options().power.0 * (1.0 + 1e-12),
                        "{powers:?}"
                    );
                    for (user, power) in served.iter().zip(powers) {
                        assert_eq!(*user == IDLE, *power == 0.0);
                        if *user != IDLE {
                            assert!(
                                server[*user] == IDLE || server[*user] == i,
                                "user {user} has two servers"
                            );
                            server[*user] = i;
                        }
                    }
                }
                for (user, rate) in env.rates().iter().enumerate() {
                    assert!(*rate <= env.interference_free(user) * (1.0 + 1e-12), "{rate}");
                }
                let sum: f64 = env.rates().iter().sum();
                assert!(sum <= env.interference_free_sum() * (1.0 + 1e-12));
                assert!(sum / k as f64 <= mean_bound * (1.0 + 1e-12));
                let j = told(env, "jain");
                assert!(j >= 1.0 / k as f64 - 1e-12 && j <= 1.0 + 1e-12);
                sent += sum;
            });
            assert!(sent > 0.0, "{id}, {action}: nothing was ever sent");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the mask allows does what it says: no wall, no user out of reach, no wasted choice but those that several
    /// UAVs make, or that carry no power.
    #[test]
    fn masks_never_allow_an_illegal_action(
        seed in 0u64..1_000_000, preset in 0usize..4, hybrid: bool, sensing in 50.0..900.0f64, climbs: bool,
    ) {
        let sensing = sensing.to_string();
        let given = [
            ("action", if hybrid { "hybrid" } else { "multi-discrete" }),
            ("sensing", sensing.as_str()),
            ("altitude", if climbs { "[50, 150]" } else { "[100, 100]" }),
            ("steps", "20"),
        ];
        let mut env = bs(PRESETS[preset], &given);
        let (n, shown, m) = (env.options().subchannels.0, env.options().observed.0, env.options().uavs.0);
        play(&mut env, seed, |env, action, _| {
            if !hybrid {
                assert_eq!(told(env, "boundary"), 0.0);
            }
            let own = action.len() / m;
            let head = own - 2 * n;
            // Slots that were chosen with some power; each is served, or lost to the same user of another UAV.
            let (mut chosen, mut powerless) = (0, 0);
            for action in action.chunks(own) {
                for channel in 0..n {
                    let (user, level) = (action[head + channel] as usize, action[head + n + channel] as usize);
                    assert!(user <= shown);
                    chosen += usize::from(user > 0 && level > 0);
                    powerless += usize::from(user > 0 && level == 0);
                }
            }
            let served = env.served().iter().filter(|user| **user != IDLE).count();
            let lost = chosen - served;
            assert_eq!(told(env, "wasted") as usize, powerless + lost);
            // Who lost, lost to someone: as many users are served as were chosen by anyone.
            if chosen > 0 {
                assert!(served > 0);
            }
        });
    }

    /// Forbidden choices are survived and served nobody.
    #[test]
    fn what_the_mask_forbids_is_refused(seed in 0u64..1_000_000) {
        let mut env = bs("uav-bs/bs-std", &[("action", "multi-discrete"), ("sensing", "150")]);
        let (mut rng, mut choice) = (stream(seed, Purpose::Check, 0), stream(seed, Purpose::Check, 1));
        let (mut obs, mut reward) = (vec![0.0; env.spec().obs_len()], vec![0.0; 3]);
        env.reset(&mut rng, &mut obs);
        let mut mask = vec![false; env.spec().mask_len()];
        for _ in 0..10 {
            env.mask(&mut mask);
            let mut action = Vec::new();
            env.spec().agents.iter().for_each(|a| a.action.sample(&[], &mut choice, &mut action));
            env.step(&action, &mut rng, &mut obs, &mut reward);
            let per_agent = mask.len() / 3;
            for i in 0..3 {
                for channel in 0..4 {
                    let user = action[9 * i + 1 + channel] as usize;
                    if !mask[per_agent * i + 9 + 13 * channel + user] {
                        prop_assert_eq!(env.served()[4 * i + channel], IDLE);
                    }
                }
            }
        }
    }
}

#[test]
fn energy_is_the_integral_of_the_power_curve() {
    let mut env = bs("uav-bs", &[("battery", "50"), ("slot", "0.5")]);
    let mut spent = 0.0;
    let mut last = 0.0;
    play(&mut env, 1, |env, _, _| {
        let mut state = State::new();
        env.save(&mut state);
        let speeds =
            state.f64("velocity", 9).unwrap().chunks(3).map(|v| v[0].hypot(v[1])).collect::<Vec<_>>();
        spent += speeds.into_iter().map(energy::power).sum::<f64>() * 0.5;
        let left: f64 = state.f64("energy", 3).unwrap().iter().sum();
        assert!((150e3 - left - spent).abs() < 1e-6, "{left} and {spent}");
        last = left;
    });
    assert!(last < 150e3);
    let mut steps = 0;
    play(&mut bs("uav-bs", &[("battery", "1")]), 1, |_, _, _| steps += 1);
    assert!((5..9).contains(&steps), "1 kJ lasts some 6 to 8 s, not {steps}");
}

/// Moving everything by the same way leaves rates as they are.
#[test]
fn places_matter_only_relative_to_each_other() {
    let given = [("mobility", "static"), ("side", "4000"), ("sensing", "inf")];
    let (mut env, mut moved) = (bs("uav-bs", &given), bs("uav-bs", &given));
    let mut rng = stream(6, Purpose::Check, 0);
    let (mut obs, mut reward) = (vec![0.0; env.spec().obs_len()], vec![0.0; 3]);
    env.reset(&mut rng, &mut obs);
    let mut state = State::new();
    env.save(&mut state);
    let (mut first, mut second) = (state.clone(), state.clone());
    for (name, width, count) in [("position", 3, 3), ("users.position", 2, 12)] {
        let shift = |way: [f64; 3]| {
            let old = state.f64(name, width * count).unwrap();
            let numbers = old.iter().enumerate();
            numbers
                .map(|(i, x)| if i % width < 2 { 0.25 * x + way[i % width] } else { *x })
                .collect::<Vec<_>>()
        };
        first.put_f64(name, &shift([100.0, 200.0, 0.0]));
        second.put_f64(name, &shift([2500.0, 1800.0, 0.0]));
    }
    env.load(&first).unwrap();
    moved.load(&second).unwrap();
    env.step(&[0.0; 6], &mut rng, &mut obs, &mut reward);
    moved.step(&[0.0; 6], &mut rng, &mut obs, &mut reward);
    assert!(env.rates().iter().zip(moved.rates()).all(|(a, b)| (a - b).abs() < 1e-6 && *a > 0.0));
}

/// Numbers of users and UAVs do not matter.
#[test]
fn users_by_another_name_are_paid_the_same() {
    let id = "uav-bs/bs-std";
    let given = [("mobility", "static"), ("order", "nearest")];
    let (mut env, mut renamed) = (bs(id, &given), bs(id, &given));
    let (uav, user) = ([2usize, 0, 1], [7usize, 3, 11, 0, 5, 9, 1, 10, 2, 8, 4, 6]);
    let mut rng = stream(5, Purpose::Check, 0);
    let (mut obs, mut reward) = (vec![0.0; env.spec().obs_len()], vec![0.0; 3]);
    env.reset(&mut rng, &mut obs);
    renamed.reset(&mut rng, &mut obs);
    let mut state = State::new();
    env.save(&mut state);
    let permuted = |name: &str, width: usize, order: &[usize]| {
        let old = state.f64(name, width * order.len()).unwrap();
        order.iter().flat_map(|i| old[i * width..(i + 1) * width].to_vec()).collect::<Vec<f64>>()
    };
    let mut other = state.clone();
    for (name, width) in [("position", 3), ("velocity", 3), ("energy", 1)] {
        other.put_f64(name, &permuted(name, width, &uav));
    }
    for (name, width) in [("users.position", 2), ("users.velocity", 2), ("users.walkers", 6)] {
        other.put_f64(name, &permuted(name, width, &user));
    }
    let links: Vec<usize> = uav.iter().flat_map(|i| user.map(|u| 12 * i + u)).collect();
    for name in ["ground", "loss", "gains"] {
        other.put_f64(name, &permuted(name, 1, &links));
    }
    renamed.load(&other).unwrap();
    for t in 0..50 {
        let action: Vec<f64> = (0..6).map(|a| ((t * 7 + a * 3) % 11) as f64 / 5.0 - 1.0).collect();
        let moved: Vec<f64> = uav.iter().flat_map(|i| action[2 * i..2 * i + 2].to_vec()).collect();
        let (mut paid, mut obs_) = (vec![0.0; 3], obs.clone());
        env.step(&action, &mut stream(0, Purpose::Check, 0), &mut obs, &mut reward);
        renamed.step(&moved, &mut stream(0, Purpose::Check, 0), &mut obs_, &mut paid);
        for u in 0..12 {
            assert!((renamed.rates()[u] - env.rates()[user[u]]).abs() < 1e-6, "slot {t}");
        }
        for i in 0..3 {
            assert!((paid[i] - reward[uav[i]]).abs() < 1e-12, "slot {t}: {paid:?}, {reward:?}");
        }
    }
}

#[test]
fn the_best_assignment_is_no_worse_than_any_other() {
    let mut env = bs("uav-bs/bs-tiny", &[("action", "multi-discrete")]);
    let mut choice = stream(9, Purpose::Check, 9);
    let mut sums = [0.0; 4];
    for seed in 0..10 {
        let mut rng = stream(seed, Purpose::Check, 0);
        let mut obs = vec![0.0; env.spec().obs_len()];
        env.reset(&mut rng, &mut obs);
        let (best, greedy, hungarian) = (env.exhaustive(), env.greedy(), env.hungarian());
        let [best, greedy, hungarian] = [best, greedy, hungarian].map(|a| env.sum_rate(&a));
        let mut random = Vec::new();
        for _ in 0..200 {
            let draw = |rng: &mut Rng| {
                let mut x = Vec::new();
                steadfast_envs::Space::MultiDiscrete(vec![5, 4]).sample(&[], rng, &mut x);
                if x[0] == 0.0 || x[1] == 0.0 { (IDLE, 0) } else { (x[0] as usize - 1, x[1] as usize) }
            };
            let assignment: Vec<_> = (0..4).map(|_| draw(&mut choice)).collect();
            random.push(env.sum_rate(&assignment));
        }
        assert!(random.iter().chain([&greedy, &hungarian]).all(|rate| *rate <= best + 1e-6));
        let random = random.iter().sum::<f64>() / 200.0;
        [best, greedy, hungarian, random].iter().zip(&mut sums).for_each(|(x, sum)| *sum += x);
    }
    println!("exhaustive, greedy, Hungarian, random: {sums:?}");
    assert!(sums[0] >= sums[1] && sums[1] > sums[3] && sums[2] > sums[3], "{sums:?}");
}

#[test]
fn comparators_are_in_the_order_that_they_should_be() {
    for id in ["uav-bs/bs-tiny", "uav-bs/bs-std"] {
        let scores = compare::scores(&|| make_with(id, &[]).unwrap(), 10, 0);
        let of = |name: &str| scores.iter().find(|s| s.policy == name).unwrap().mean;
        for s in &scores {
            println!("{id} {:12} {:8.2} ± {:.2}  {:?}", s.policy, s.mean, s.error, &s.info[..4]);
        }
        assert!(of("greedy") > of("random") && of("k-means") > of("random"), "{scores:?}");
        let bound = BsOptions::preset(id).hover_bound() * 200.0;
        assert!(scores.iter().all(|s| s.mean < bound));
    }
    for action in ["multi-discrete", "hybrid", "continuous", "discrete"] {
        let given = [("action", action), ("steps", "60")];
        let scores = compare::scores(&|| make_with("uav-bs/bs-tiny", &given).unwrap(), 4, 0);
        for s in &scores {
            println!("{action} {:20} {:8.2} ± {:.2}", s.policy, s.mean, s.error);
        }
        let of = |name: &str| scores.iter().find(|s| s.policy == name).map(|s| s.mean);
        assert!(of("k-means") > of("random"), "{scores:?}");
        if let Some(best) = of("k-means/exhaustive") {
            assert!(Some(best) >= of("k-means/hungarian"), "{scores:?}");
        }
    }
}

/// Individual rewards mix to the mean; every form is finite and does what its name says.
#[test]
fn rewards_are_mixed_and_formed_as_stated() {
    for form in ["rate", "fair", "std", "pf", "maxmin"] {
        let given = |team| [("reward", form), ("team", team), ("steps", "20")];
        let record = |team: &'static str| {
            let mut all = Vec::new();
            play(&mut bs("uav-bs", &given(team)), 2, |_, _, r| all.push(r.to_vec()));
            all
        };
        let (own, half, shared) = (record("0"), record("0.5"), record("1"));
        for ((own, half), shared) in own.iter().zip(&half).zip(&shared) {
            let mean = own.iter().sum::<f64>() / 3.0;
            for i in 0..3 {
                assert!((shared[i] - mean).abs() < 1e-12 && (half[i] - 0.5 * (own[i] + mean)).abs() < 1e-12);
            }
        }
    }
    // Without penalties the mean reward is the mean rate of the users in R_ref.
    let costs = ["collision_cost", "boundary_cost", "qos_cost", "energy_cost"].map(|cost| (cost, "0"));
    let mut env = bs("uav-bs", &costs);
    let reference = env.options().reference_rate();
    play(&mut env, 4, |env, _, reward| {
        let mean = env.rates().iter().sum::<f64>() / 12.0 / reference;
        assert!((reward.iter().sum::<f64>() / 3.0 - mean).abs() < 1e-12);
    });
}

#[test]
fn threads_never_change_a_result() {
    let given = [("action", "hybrid"), ("sight", "sampled"), ("fading", "rician")];
    let run = |threads| {
        let make = || make_with("uav-bs/bs-jam", &given).unwrap();
        let mut envs = VecEnv::new(&make, 7, 1, Purpose::Check, threads);
        let len = 7 * envs.spec().action_len();
        let mut seen: Vec<u64> = Vec::new();
        for t in 0..250 {
            let actions: Vec<f32> = (0..len).map(|a| ((t * 5 + a * 3) % 7) as f32 / 2.0 - 1.0).collect();
            envs.step(&actions);
            seen.extend(envs.rewards().iter().map(|r| r.to_bits()));
            let numbers = envs.obs().iter().chain(envs.states()).chain(envs.nodes()).chain(envs.edges());
            seen.extend(numbers.map(|x| u64::from(x.to_bits())));
            seen.extend(envs.masks().iter().map(|m| u64::from(*m)));
        }
        seen
    };
    let alone = run(1);
    assert!(alone == run(2) && alone == run(4));
}

#[test]
fn sizes_are_those_documented() {
    let env = bs("uav-bs/bs-std", &[]);
    assert_eq!((env.spec().agents[0].obs.len(), env.spec().state_len), (117, 118));
    assert_eq!(bs("uav-bs/bs-std", &[("show_id", "true")]).spec().agents[0].obs.len(), 120);
    let reference = env.options().reference_rate();
    assert!((reference - 180e3 * 7.4).abs() < 1e-6, "{reference}");
    // Without the cap: 30 dBm − 6.02 dB − 79.469 dB over −114.447 dBm.
    let snr = radio::watt(30.0 - 10.0 * 4f64.log10() - 79.4689 + 114.4473) * 1e3;
    let uncapped = BsOptions::given("uav-bs", &[("rate_cap", "inf")]).unwrap().reference_rate();
    assert!((uncapped / 180e3 - (1.0 + snr).log2()).abs() < 1e-3, "{uncapped}");
}

#[test]
fn other_impossible_scenarios_are_refused_too() {
    for (id, given, expected) in [
        ("uav-trajectory", vec![("uavs", "7")], "uavs = 7 are more than users = 6"),
        ("uav-trajectory/wu2018-2", vec![("separation", "1500")], "cannot keep separation = 1500 m"),
        ("uav-harvest", vec![("uavs", "4")], "uavs = 4 are more than 3"),
        ("uav-harvest", vec![("least_data", "50")], "least_data = 50 exceeds most_data = 40"),
        ("uav-harvest", vec![("zone", "700")], "zone = 700 m is larger than side = 600 m"),
        ("uav-harvest", vec![("surroundings", "uma"), ("altitude", "10")], "altitude = 10 m is outside"),
        ("uav-harvest", vec![("power", "-1")], "'power' takes a finite number above 0, not '-1'"),
    ] {
        let error =
            make_with(id, &given).err().unwrap_or_else(|| panic!("{given:?} is accepted")).to_string();
        assert!(error.starts_with(&format!("{id}: ")) && error.contains(expected), "{error}");
    }
}

/// Options go through text and back, whatever their order: as a run file writes and reads them.
#[test]
fn resolved_options_make_the_same_task() {
    for id in PRESETS.into_iter().chain(["uav-bs", "uav-harvest", "uav-trajectory/wu2018-2"]) {
        let entry = steadfast_envs::entry(id).unwrap();
        let options = (entry.options)(&[]).unwrap();
        let mut given: Vec<(&str, &str)> = options.iter().map(|o| (o.key, o.value.as_str())).collect();
        given.sort_unstable();
        assert_eq!((entry.options)(&given).unwrap(), options, "{id}");
        assert_eq!(make_with(id, &given).unwrap().spec(), (entry.make)().spec(), "{id}");
    }
}

#[test]
fn impossible_scenarios_are_refused_with_one_clear_error() {
    for (given, expected) in [
        (vec![("subchannels", "65")], "'subchannels' takes a whole number from 1 to 64, not '65'"),
        (vec![("users", "0")], "'users' takes a whole number from 1 to 1000, not '0'"),
        (vec![("power", "-1")], "'power' takes a finite number above 0, not '-1'"),
        (vec![("separation", "-1")], "'separation' takes a finite number of at least 0"),
        (vec![("separation", "600")], "uavs = 3 cannot keep separation = 600 m on a square of side = 1000 m"),
        (vec![("observed", "20")], "observed = 20 users of users = 12"),
        (vec![("observed", "5")], "order = index observes all users = 12, not observed = 5"),
        (vec![("surroundings", "uma"), ("altitude", "[10, 20]")], "altitude = [10, 20] m is outside"),
        (vec![("max_speed", "2000")], "leaves the square"),
        (vec![("altitude", "[100, inf]")], "airspace must be finite"),
        (vec![("action", "both")], "'action' takes motion, discrete, multi-discrete, continuous or hybrid"),
        (vec![("sensing", "0")], "'sensing' takes a number above 0, or inf"),
    ] {
        let error =
            make_with("uav-bs", &given).err().unwrap_or_else(|| panic!("{given:?} is accepted")).to_string();
        assert!(error.starts_with("uav-bs: ") && error.contains(expected), "{error}");
        assert!(!error.contains('\n'));
    }
}
