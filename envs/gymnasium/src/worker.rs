//! Environments in worker processes, which run `bridge.py` and answer framed requests.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use steadfast_envs::Picture;

use crate::{BRIDGE, Driver};

/// Kinds of requests, as in `bridge.py`.
const MAKE: u8 = 0;
const RESET: u8 = 1;
const STEP: u8 = 2;
const PICTURE: u8 = 3;
const CLOSE: u8 = 4;

/// One process, shared by the environments in it.
pub struct Worker(Mutex<Process>);

struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    replies: ChildStdout,
}

/// The program of the interpreter that workers run.
fn program() -> Result<std::path::PathBuf, String> {
    #[cfg(feature = "embed")]
    return crate::interpreter::program();
    #[cfg(not(feature = "embed"))]
    return crate::embedded::program();
}

impl Worker {
    /// Starts a process.
    ///
    /// # Errors
    /// When there is no Python.
    pub fn start() -> Result<Self, String> {
        let program = program()?;
        let mut child = Command::new(&program)
            .arg("-c")
            .arg(BRIDGE.to_string_lossy().as_ref())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        let (requests, replies) = (child.stdin.take(), child.stdout.take());
        let replies = replies.ok_or_else(|| "the worker has no output".to_owned())?;
        Ok(Self(Mutex::new(Process { child, requests, replies })))
    }

    /// Sends a request about environment `key`; its answer.
    fn ask(&self, kind: u8, key: u32, data: &[u8]) -> Result<Vec<u8>, String> {
        let mut process = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match process.exchange(kind, key, data) {
            Ok((false, reply)) => Ok(reply),
            Ok((true, why)) => Err(String::from_utf8_lossy(&why).into_owned()),
            Err(e) => {
                process.requests = None;
                let _ = process.child.kill();
                let how = process.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                Err(format!("its worker process died ({how}): {e}"))
            }
        }
    }
}

impl Process {
    fn exchange(&mut self, kind: u8, key: u32, data: &[u8]) -> std::io::Result<(bool, Vec<u8>)> {
        let requests = self.requests.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let mut frame = Vec::with_capacity(9 + data.len());
        frame.push(kind);
        frame.extend_from_slice(&key.to_le_bytes());
        frame.extend_from_slice(&(data.len() as u32).to_le_bytes());
        frame.extend_from_slice(data);
        requests.write_all(&frame)?;
        let mut head = [0; 5];
        self.replies.read_exact(&mut head)?;
        let mut reply = vec![0; u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize];
        self.replies.read_exact(&mut reply)?;
        Ok((head[0] != 0, reply))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// An environment within a worker.
struct Remote {
    worker: Arc<Worker>,
    key: u32,
}

/// Environment number `key`, new in `worker`, and its specification.
///
/// # Errors
/// What the environment raised, or why the worker does not answer.
pub fn open(
    worker: &Arc<Worker>,
    key: usize,
    name: &str,
    options: &str,
    render: bool,
) -> Result<(Box<dyn Driver>, String), String> {
    let remote = Remote { worker: worker.clone(), key: key as u32 };
    let spec = remote.ask(MAKE, serde_json::json!([name, options, render]).to_string().as_bytes())?;
    Ok((Box::new(remote), String::from_utf8_lossy(&spec).into_owned()))
}

impl Remote {
    fn ask(&self, kind: u8, data: &[u8]) -> Result<Vec<u8>, String> {
        self.worker.ask(kind, self.key, data)
    }
}

fn short() -> String {
    "its worker process sent less than was asked for".to_owned()
}

/// Reads an observation, `[obs_len]`.
fn read(bytes: &[u8], obs: &mut [f32]) -> Result<(), String> {
    if bytes.len() != 4 * obs.len() {
        return Err(short());
    }
    for (x, word) in obs.iter_mut().zip(bytes.chunks_exact(4)) {
        *x = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
    }
    Ok(())
}

impl Driver for Remote {
    fn reset(&mut self, seed: u64, obs: &mut [f32]) -> Result<(), String> {
        read(&self.ask(RESET, &seed.to_le_bytes())?, obs)
    }

    fn step(&mut self, action: &[f64], obs: &mut [f32]) -> Result<(f64, bool, bool), String> {
        let action: Vec<u8> = action.iter().flat_map(|a| a.to_le_bytes()).collect();
        let reply = self.ask(STEP, &action)?;
        let (head, rest) = reply.split_first_chunk::<10>().ok_or_else(short)?;
        read(rest, obs)?;
        let (reward, flags) = head.split_at(8);
        let reward = f64::from_le_bytes(reward.try_into().map_err(|_| short())?);
        Ok((reward, flags[0] != 0, flags[1] != 0))
    }

    fn picture(&mut self) -> Result<Picture, String> {
        let reply = self.ask(PICTURE, &[])?;
        let (head, rgb) = reply.split_first_chunk::<12>().ok_or_else(short)?;
        let [height, width, fps] =
            std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|b| head[4 * i + b])));
        Ok(Picture { width: width as usize, height: height as usize, rgb: rgb.to_vec(), fps })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.ask(CLOSE, &[]);
    }
}
