//! Advancing time: semi-implicit Euler with implicit joint damping, and Runge-Kutta of fourth order.

use super::dynamics::{factor, solve};
use super::model::Integrator;
use super::sim::Sim;
use super::spatial::{Vec3, add, add_scaled, cross, norm, scale, turn_quat};

/// What is larger than this has diverged.
const MAX_VALUE: f64 = 1e10;

fn diverged(values: &[f64]) -> bool {
    // A NaN is not at most anything.
    !values.iter().all(|x| x.abs() <= MAX_VALUE)
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Advances by one time step.
    ///
    /// A state or an acceleration beyond 1e10, or not a number, puts the simulation back to the reference pose at
    /// rest without control, as MuJoCo does, and is counted.
    pub fn step(&mut self) {
        if diverged(&self.qpos) || diverged(&self.qvel) {
            self.start_over();
        }
        self.forward();
        if diverged(&self.qacc) {
            self.start_over();
            self.forward();
        }
        match self.model.integrator {
            Integrator::Euler => self.euler(),
            Integrator::RungeKutta => self.runge_kutta(),
        }
    }

    fn start_over(&mut self) {
        self.divergences += 1;
        self.reset();
    }

    /// v⁺ = v + h (M + h B)⁻¹ f, q⁺ = q ⊕ h v⁺, with the joint dampers B: the new velocity brakes itself.
    fn euler(&mut self) {
        let h = self.model.timestep;
        let mut m = self.qm;
        let mut step = [0.0; NV];
        for (i, dof) in self.model.dofs.iter().enumerate() {
            m[i][i] += h * dof.damping;
            step[i] = self.qfrc_smooth[i] + self.qfrc_constraint[i];
        }
        let mut diag_inv = [0.0; NV];
        factor(&self.model.dofs, |dof| dof.ancestors, &mut m, &mut diag_inv);
        solve(&self.model.dofs, |dof| dof.ancestors, &m, &diag_inv, &mut step);
        self.qacc_warmstart = self.qacc;
        for i in 0..NV {
            self.qvel[i] += h * step[i];
        }
        self.qpos = self.moved(&self.qpos, &self.qvel, h);
    }

    /// The classical scheme. On a free joint, rates of rotation belong to the frame that has turned since the start
    /// of the step, so they are carried back to it (Munthe-Kaas 1998) where the profile says so.
    fn runge_kutta(&mut self) {
        const STAGES: [f64; 3] = [0.5, 0.5, 1.0];
        const WEIGHTS: [f64; 4] = [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0];
        let h = self.model.timestep;
        let (q0, v0) = (self.qpos, self.qvel);
        // Rates of position and velocity at the current stage, and their weighted sums.
        let (mut k, mut f) = (v0, self.qacc);
        let mut sum_k = k.map(|x| WEIGHTS[0] * x);
        let mut sum_f = f.map(|x| WEIGHTS[0] * x);
        for (a, weight) in STAGES.into_iter().zip(&WEIGHTS[1..]) {
            self.qpos = self.moved(&q0, &k, a * h);
            let turned = scale([k[3.min(NV - 1)], k[4.min(NV - 1)], k[5.min(NV - 1)]], a * h);
            for i in 0..NV {
                self.qvel[i] = v0[i] + a * h * f[i];
            }
            self.forward();
            (k, f) = (self.qvel, self.qacc);
            if self.model.free && self.profile.corrects_rotations() {
                let rate = carried_back(turned, [k[3], k[4], k[5]]);
                k[3..6].copy_from_slice(&rate);
            }
            for i in 0..NV {
                sum_k[i] += weight * k[i];
                sum_f[i] += weight * f[i];
            }
        }
        self.qacc_warmstart = self.qacc;
        self.qpos = self.moved(&q0, &sum_k, h);
        for i in 0..NV {
            self.qvel[i] = v0[i] + h * sum_f[i];
        }
    }

    /// `qpos` after moving for `time` with the rates `k`.
    fn moved(&self, qpos: &[f64; NQ], k: &[f64; NV], time: f64) -> [f64; NQ] {
        let mut q = *qpos;
        let mut first = 0;
        if self.model.free {
            for i in 0..3 {
                q[i] += time * k[i];
            }
            let quat = turn_quat([q[3], q[4], q[5], q[6]], [k[3], k[4], k[5]], time);
            q[3..7].copy_from_slice(&quat);
            first = 6;
        }
        for i in first..NV {
            q[Self::coordinate(i)] += time * k[i];
        }
        q
    }
}

/// The rate of the rotation vector u that gives the body-frame rate ω: ω + ½ u×ω + κ u×(u×ω), with
/// κ = (1 − (θ/2) cot(θ/2))/θ² and θ = |u|.
fn carried_back(u: Vec3, omega: Vec3) -> Vec3 {
    let theta = norm(u);
    let kappa = if theta < 1e-4 {
        // 1/12 + θ²/720 + …
        1.0 / 12.0 + theta * theta / 720.0
    } else {
        let half = 0.5 * theta;
        (1.0 - half / half.tan()) / (theta * theta)
    };
    let once = cross(u, omega);
    add(add_scaled(omega, once, 0.5), scale(cross(u, once), kappa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mujoco::spatial::{dot, quat_to_mat, rotate};

    #[test]
    fn a_rate_carried_back_turns_as_the_body_does() {
        // Turning by u(t) with u' = carried_back(u, ω) is turning with the body-frame rate ω.
        let (u, omega) = ([0.3, -0.5, 0.2], [1.0, 2.0, -0.7]);
        let eps = 1e-6;
        let q = turn_quat([1.0, 0.0, 0.0, 0.0], u, 1.0);
        let by_body = turn_quat(q, omega, eps);
        let by_vector = turn_quat([1.0, 0.0, 0.0, 0.0], add_scaled(u, carried_back(u, omega), eps), 1.0);
        for i in 0..4 {
            assert!((by_body[i] - by_vector[i]).abs() < 1e-11, "{by_body:?} {by_vector:?}");
        }
        let x = rotate(&quat_to_mat(q), [1.0, 0.0, 0.0]);
        assert!((dot(x, x) - 1.0).abs() < 1e-14);
    }

    #[test]
    fn small_and_large_turns_meet() {
        let omega = [1.0, 2.0, -0.7];
        let (below, above) =
            (carried_back([0.99999e-4, 0.0, 0.0], omega), carried_back([1.00001e-4, 0.0, 0.0], omega));
        assert!(norm(add_scaled(below, above, -1.0)) < 1e-8);
    }
}
