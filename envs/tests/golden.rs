//! Golden values: what a fixed seed and fixed actions give. A change here is a change to numbers.

use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::state::Array;
use steadfast_envs::{Env, REGISTRY, Space, State, make};

const STEPS: usize = 3;

/// The state after the reset and after each of three steps, then the three rewards.
fn trace(mut env: Box<dyn Env>) -> Vec<f64> {
    let spec = env.spec().clone();
    let mut rng = stream(0, Purpose::Check, 0);
    let mut obs = vec![0.0; spec.obs_len()];
    let mut rewards = [0.0; STEPS];
    let mut values = Vec::new();
    env.reset(&mut rng, &mut obs);
    values.extend(state(env.as_ref()).into_iter().flatten());
    for t in 0..STEPS {
        let whole = !matches!(spec.agents[0].action, Space::Box { .. });
        let at = |(i, (low, high)): (usize, (f64, f64))| {
            // A third, four fifths, or none of the way through the range; whole for choices.
            let value = low + [0.33, 0.8, 0.0][(t + i) % STEPS] * (high - low);
            if whole { value.round() } else { value }
        };
        let action: Vec<f64> = spec.agents[0].action.bounds().into_iter().enumerate().map(at).collect();
        env.step(&action, &mut rng, &mut obs, &mut rewards[t..t + 1]);
        values.extend(state(env.as_ref()).into_iter().flatten());
    }
    values.extend(rewards);
    values
}

/// The saved state, of a task that saves one array called `state`.
fn state(env: &dyn Env) -> Option<Vec<f64>> {
    let mut saved = State::new();
    env.save(&mut saved);
    let entries: Vec<_> = saved.iter().collect();
    match entries[..] {
        [("state", Array::F64(values))] => Some(values.clone()),
        _ => None,
    }
}

#[rustfmt::skip]
const GOLDEN: &[(&str, &[f64])] = &[
    ("Pendulum-v1", &[
        2.62780781156, 0.05694009413639, 2.643985201611, 0.3235478010247, 2.687062260788,
        0.8615411835258, 2.731603336296, 0.8908215101654, -6.906160511928, -7.002566064294,
        -7.29852891444,
    ]),
    ("MountainCarContinuous-v0", &[
        -0.4163542687893, 0.0, -0.417654812336, -0.001300529111177, -0.4188366234303, -0.001181798288599,
        -0.4222912788391, -0.003454643068835, -0.01156000024319, -0.03600000286102, -0.1,
    ]),
    ("CartPole-v1", &[
        0.04182286027053, 0.00284700470682, -0.01712100606204, -0.006632382324557, 0.04187980036466,
        -0.1920252756454, -0.01725365370854, 0.2805998673634, 0.03803929485176, 0.003338488815359,
        -0.01164165636127, -0.01747448476002, 0.03810606462806, -0.1916145893652, -0.01199114605647,
        0.2715127468504, 1.0, 1.0, 1.0,
    ]),
    ("MountainCar-v0", &[
        -0.4163542794589, 0.0, -0.4171448083983, -0.0007905289394049, -0.4177202393153,
        -0.0005754309169414, -0.4200764735313, -0.002356234215984, -1.0, -1.0, -1.0,
    ]),
    ("Acrobot-v1", &[
        0.08364572376013, 0.005694009363651, -0.03424201160669, -0.01326476503164, 0.06702319895012,
        0.01001450277384, -0.1283826352479, 0.05301192470179, 0.02126748069051, 0.05883371667908,
        -0.3180968343971, 0.4191222999477, -0.02743638083738, 0.09930655748779, -0.1581082065414,
        -0.02821778892462, -1.0, -1.0, -1.0,
    ]),
    ("CartPoleSwingUp", &[
        0.04182286027053, 0.00284700470682, 3.124471647528, -0.006632382324557, 0.03929337842863,
        -0.1293013531015, 3.120451690318, -0.1939387139528, 0.03881699607202, 0.1054841353534,
        3.12000057082, 0.1714262094323, 0.03524392303884, -0.284113536275, 3.115421053101,
        -0.3999024645626, 1.233783208258e-08, 1.309316507135e-08, 2.638440146522e-08,
    ]),
    ("AcrobotSwingUp", &[
        0.08364572054106, 0.005694009413639, -0.03424201212409, -0.01326476464911, 0.0870908662808,
        -0.009415104612949, 0.1717452120497, -0.590294755709, 0.08473332914349, -0.01196680618687,
        -0.2659403011538, 0.4882373310875, 0.08785089585773, -0.03088696065211, 0.3902583327248,
        -1.243957549936, 2.839547555009e-06, 2.327122299513e-06, 1.632728977823e-06,
    ]),
    ("PlanarQuadrotor", &[
        0.8364572054106, 0.05694009413639, -0.1027260363723, -0.03979429394734, -0.1467764093703,
        -0.2518401790427, 0.8357376568464, 0.05153350029076, -0.103578243534, 0.003875907310249,
        -0.1235593948686, 0.2092298209573, 0.8366217552699, 0.04576856040994, -0.1109050506957,
        0.04075779126056, -0.1647337590612, -0.5755701790427, 0.8388638739409, 0.03651408359509,
        -0.1274532578574, 0.07206272708456, -0.2980756508087, -0.2518401790427, 0.572333484963,
        0.5458991076174, 0.5515403868722,
    ]),
    ("DoubleIntegrator", &[
        0.8364572054106, 0.05694009413639, 0.8370512148242, -0.04505990586361, 0.8415452242378,
        0.1349400941364, 0.8400392336515, -0.1650599058636, -1.743302830804, -3.942685131355,
        -9.726407193443,
    ]),
    ("probe/bandit", &[
        1.410785406534, 1.045266801737, -0.2524806609665,
    ]),
    ("probe/bandit-continuous", &[
        0.02718540653362, 0.045266801737, -2.812480660967,
    ]),
    ("probe/identity-discrete", &[
        3.0, 3.0, 0.0, 2.0, 0.0, 0.0, 1.0,
    ]),
    ("probe/identity-continuous", &[
        0.8364572054106, 0.05694009413639, -0.3424201212409, -0.1326476464911, -0.489254697901,
        -0.8394672634758, 0.5109387083635, -0.9094089607468, -1.678965617519, -1.640455790057,
        -0.5103283109002,
    ]),
    ("probe/multi-discrete", &[
        2.0, 3.0, 0.0, 2.0, 2.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.5,
    ]),
    ("probe/two-step", &[
        0.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0,
    ]),
    ("probe/recall", &[
        1.0, 0.0, 1.0, 1.0, 1.0, 2.0, 1.0, 3.0, 0.0, 0.0, 0.0,
    ]),
    ("probe/endless", &[
        1.0, 1.0, 1.0,
    ]),
];

#[test]
fn the_first_states_and_rewards_are_as_recorded() {
    for (id, expected) in GOLDEN {
        let ours = trace(make(id).unwrap());
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
        assert!(ours.len() == expected.len() && ours.iter().zip(*expected).all(near), "{id} gives {ours:?}");
    }
}

#[test]
fn every_task_with_one_agent_and_one_array_has_golden_values() {
    for entry in REGISTRY {
        let env = (entry.make)();
        if env.spec().agents.len() == 1 && state(env.as_ref()).is_some() {
            assert!(GOLDEN.iter().any(|(id, _)| *id == entry.id), "{} has none", entry.id);
        }
    }
}

/// Of the MuJoCo tasks: what each reset and each of three steps leaves of `qpos` and of `qvel`, as sums of squares;
/// then the three rewards.
#[rustfmt::skip]
const ROBOTS: &[(&str, [f64; 11])] = &[
    ("InvertedPendulum-v5", [
        7.029028308035e-05, 1.348469375503e-05, 0.0002658325783647, 0.7207549364616, 0.0003632279550486, 0.4462248713504,
        0.00184600852377, 3.524510356021, 1.0, 1.0, 1.0,
    ]),
    ("InvertedDoublePendulum-v5", [
        0.008201543702341, 0.02490289782377, 0.01354365337553, 7.11882532254, 0.02171807636276, 1.540145946684,
        0.07146105913527, 40.26408319845, 9.333288672377, 9.353197197998, 9.205457783896,
    ]),
    ("Reacher-v5", [
        0.04479204614266, 2.720207553977e-05, 0.04355706039968, 7.430238393656, 0.04365354284244, 3.79521360393,
        0.04021859272041, 17.20471662326, -0.8345222751124, -1.719005107426, -1.470583465589,
    ]),
    ("Swimmer-v5", [
        0.01077119927772, 0.02618427147979, 0.008924855733451, 6.772105884011, 0.008603877668301, 4.642044978743,
        0.008623139508803, 1.090882310324, -0.09742294896314, -0.08692291026035, -0.08190804981115,
    ]),
    ("Hopper-v5", [
        1.563256296807, 5.657691146362e-05, 1.562698539736, 2.843256454908, 1.561420853037, 4.345695473514,
        1.559001388251, 5.069563776644, 1.010314662973, 0.9578341023329, 0.8694258868977,
    ]),
    ("HalfCheetah-v5", [
        0.033942267362, 0.0616421663692, 0.3888848326085, 267.282322459, 0.4813309085973, 606.1578697714,
        0.3258497739302, 608.8375529537, -0.5254902665013, 0.3506224968981, -0.8950099558224,
    ]),
    ("Walker2d-v5", [
        1.563296606845, 5.528302274344e-05, 1.575134533234, 467.6450707422, 1.640338222994, 820.6620721515,
        1.730570270967, 232.597172693, 0.8837894052201, 0.5929092431782, 0.03455472800145,
    ]),
    ("Ant-v5", [
        1.532438556619, 0.1271232615055, 2.452219700437, 537.1556958548, 5.864628852697, 611.8604547272,
        7.769334417397, 158.4143813107, -0.8190534708575, -1.4643136305, -1.086778922079,
    ]),
    ("Humanoid-v5", [
        2.948529372604, 0.0006864361842967, 2.991311283364, 517.8947584437, 3.067561534882, 199.347299355,
        3.207696999628, 629.1226644958, 4.866572135942, 4.852410946646, 4.856262225139,
    ]),
    ("HumanoidStandup-v5", [
        1.008423053744, 0.0006864361842967, 1.04337112024, 411.0012799685, 1.125539827338, 258.0852042331,
        1.291649778221, 442.641264394, 36.95286518173, 39.85100734438, 41.56624987855,
    ]),
    ("Pusher-v5", [
        0.04125088101781, 7.782524762504e-05, 0.05305792854136, 12.71620785506, 0.1161539401064, 16.05050499196,
        0.1936983051201, 7.855618997224, -1.733742339049, -1.831465609118, -2.088309753365,
    ]),
];

fn robot_trace(mut env: Box<dyn Env>) -> Vec<f64> {
    let spec = env.spec().clone();
    let mut rng = stream(0, Purpose::Check, 0);
    let mut obs = vec![0.0; spec.obs_len()];
    let mut rewards = [0.0; STEPS];
    let mut values = Vec::new();
    let mut squares = |env: &dyn Env| {
        let mut saved = State::new();
        env.save(&mut saved);
        for name in ["qpos", "qvel"] {
            let array = saved.iter().find(|(n, _)| *n == name).map(|(_, a)| a.clone());
            let Some(Array::F64(v)) = array else { panic!("it saves no {name}") };
            values.push(v.iter().map(|x| x * x).sum());
        }
    };
    env.reset(&mut rng, &mut obs);
    squares(env.as_ref());
    for t in 0..STEPS {
        let at =
            |(i, (low, high)): (usize, (f64, f64))| low + [0.33, 0.8, 0.0][(t + i) % STEPS] * (high - low);
        let action: Vec<f64> = spec.agents[0].action.bounds().into_iter().enumerate().map(at).collect();
        env.step(&action, &mut rng, &mut obs, &mut rewards[t..t + 1]);
        squares(env.as_ref());
    }
    values.extend(rewards);
    values
}

#[test]
fn the_first_steps_of_the_mujoco_tasks_are_as_recorded() {
    for (id, expected) in ROBOTS {
        let ours = robot_trace(make(id).unwrap());
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
        assert!(ours.iter().zip(expected).all(near), "{id} gives {ours:?}");
    }
    let robots = REGISTRY.iter().filter(|e| e.id.ends_with("-v5"));
    for entry in robots {
        assert!(
            ROBOTS.iter().any(|(id, _)| *id == entry.id),
            "(\"{}\", {:?}),",
            entry.id,
            robot_trace((entry.make)())
        );
    }
}

/// Sums over agents of the rewards of three steps, then of the squares of the last observation.
#[rustfmt::skip]
const SEVERAL: &[(&str, [f64; 4])] = &[
    ("HalfCheetah-v5/2x3", [-1.050980533, 0.701244993796, -1.79001991164, 619.760369847]),
    ("HalfCheetah-v5/6x1", [-3.15294159901, 2.10373498139, -5.37005973493, 662.379748826]),
    ("Ant-v5/4x2", [-4.12277075228, -6.19241861068, -3.52803909691, 397.181087481]),
    ("Walker2d-v5/2x3", [1.27165678781, -0.378899030964, -0.801866376728, 363.961977657]),
    ("Hopper-v5/3x1", [3.03094398892, 2.873502307, 2.60827766069, 13.6451273609]),
    ("particle/spread", [-2.61852167663, -2.55492709732, -2.51057909667, 21.4880428825]),
    ("particle/reference", [-1.19997196837, -1.25065484961, -1.30668919371, 11.0890514693]),
    ("particle/speaker-listener", [-2.28809298103, -2.08835455821, -1.94511324109, 3.99068818961]),
    ("particle/tag", [-0.094089607468, -0.094089607468, -0.494089607468, 29.0688126927]),
    ("uav-trajectory", [0.0127797749451, 0.0126979390826, 0.0138210075723, 12.9042001274]),
    ("uav-trajectory/wu2018-1", [0.0127797749451, 0.0126979390826, 0.0138210075723, 12.9042001274]),
    ("uav-trajectory/wu2018-2", [0.0437432607786, 0.0417136553807, 0.0448393952008, 32.1009103216]),
    ("uav-harvest", [1.232, 1.332, 1.232, 18.8273018651]),
    ("uav-bs", [1.10796025606, 1.10624259135, 1.1757318007, 88.5787528209]),
    ("uav-bs/bs-tiny", [0.828039057009, 0.830348740735, 0.836647156263, 22.0593561223]),
    ("uav-bs/bs-std", [1.10796025606, 1.10624259135, 1.1757318007, 88.5787528209]),
    ("uav-bs/bs-dense", [1.30924442252, 1.29832576391, 1.31110337625, 346.705984663]),
    ("uav-bs/bs-jam", [0.698312153694, 0.698777169865, 0.789451295909, 88.2851991914]),
];

fn several_trace(mut env: Box<dyn Env>) -> [f64; 4] {
    let spec = env.spec().clone();
    let mut rng = stream(0, Purpose::Check, 0);
    let (mut obs, mut rewards) = (vec![0.0; spec.obs_len()], vec![0.0; spec.agents.len()]);
    env.reset(&mut rng, &mut obs);
    let bounds: Vec<(f64, f64)> = spec.agents.iter().flat_map(|a| a.action.bounds()).collect();
    let whole = |a: &steadfast_envs::AgentSpec| !matches!(a.action, Space::Box { .. });
    let whole = spec.agents.iter().any(whole);
    let mut values = [0.0; 4];
    for t in 0..STEPS {
        let at = |(i, (low, high)): (usize, &(f64, f64))| {
            let value = low + [0.33, 0.8, 0.0][(t + i) % STEPS] * (high - low);
            if whole { value.round() } else { value }
        };
        let action: Vec<f64> = bounds.iter().enumerate().map(at).collect();
        env.step(&action, &mut rng, &mut obs, &mut rewards);
        values[t] = rewards.iter().sum();
    }
    values[STEPS] = obs.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    values
}

#[test]
fn the_first_steps_of_the_multi_agent_tasks_are_as_recorded() {
    let several = |id: &str| ["particle/", "uav-", "-v5/"].iter().any(|part| id.contains(part));
    for entry in REGISTRY.iter().filter(|e| several(e.id)) {
        let ours = several_trace((entry.make)());
        let recorded = SEVERAL.iter().find(|(id, _)| *id == entry.id).map(|(_, values)| values);
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
        assert!(recorded.is_some_and(|r| ours.iter().zip(r).all(near)), "(\"{}\", {ours:?}),", entry.id);
    }
}
