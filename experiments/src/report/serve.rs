//! `steadfast report --serve`: the page on this machine alone, kept up to date while a sweep runs.
//!
//! Two addresses: `/` is the page, `/state?MARK` says whether there is something newer than what the page with that mark
//! shows, and what.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::data::{Report, Source, assemble};
use super::{escaped, in_script, page};
use crate::cli::{note, one_line, print};

/// Time between two looks at the files; a report that takes long to assemble is made less often, so that the sweep has the
/// processor.
const PAUSE: Duration = Duration::from_secs(1);
const SHARE: u32 = 10;
/// Requests at a time.
const MOST: usize = 32;
/// Longest head of a request.
const HEAD: usize = 16 * 1024;

/// What was made last.
#[derive(Default)]
struct Latest {
    /// Of the files that it was made of.
    mark: u64,
    report: Option<Report>,
    error: Option<String>,
    /// When to look again.
    next: Option<Instant>,
}

impl Latest {
    /// Makes the report anew if files have changed. A row that is being written makes it fail; the one before then stays.
    fn refresh(&mut self, source: &Source) {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let began = Instant::now();
        let mark = mark(source);
        if mark != self.mark || self.report.is_none() || self.error.is_some() {
            match assemble(source) {
                Ok(report) => (self.report, self.mark, self.error) = (Some(report), mark, None),
                Err(error) => self.error = Some(one_line(&error)),
            }
        }
        self.next = Some(Instant::now() + PAUSE.max(SHARE * began.elapsed()));
    }
}

/// Serves until the process is ended.
///
/// # Errors
/// When the port is taken.
pub fn serve(source: Source, port: u16) -> Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot listen on port {port}; choose another, or none for a free one"))?;
    let address = listener.local_addr().context("cannot tell the port")?;
    print(&format!("http://{address}/\n"))?;
    note("Ctrl-C ends it");
    let shared = Arc::new((source, Mutex::new(Latest::default()), AtomicUsize::new(0)));
    for stream in listener.incoming().flatten() {
        let shared = Arc::clone(&shared);
        if shared.2.fetch_add(1, Ordering::Relaxed) >= MOST {
            shared.2.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        // A browser opens connections ahead, on which nothing comes: each has its own thread.
        std::thread::spawn(move || {
            // A reader that has gone is no error.
            let _ = answer(stream, &shared.0, &shared.1);
            shared.2.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(mut stream: TcpStream, source: &Source, latest: &Mutex<Latest>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 2048]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = stream.read(&mut chunk)?;
        if n == 0 || head.len() > HEAD {
            return Ok(());
        }
        head.extend(&chunk[..n]);
    }
    let (status, kind, body) = respond(&String::from_utf8_lossy(&head), source, latest);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body.as_bytes())
}

/// Status, type and body for the head of a request.
fn respond(head: &str, source: &Source, latest: &Mutex<Latest>) -> (&'static str, &'static str, String) {
    let plain = |status, text: &str| (status, "text/plain", text.to_owned());
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map_or("", |(_, value)| value.trim());
    // A page from elsewhere whose name was made to point here must not read the results.
    if !["127.0.0.1", "localhost"].contains(&host.rsplit_once(':').map_or(host, |(name, _)| name)) {
        return plain("403 Forbidden", "this server answers to 127.0.0.1 and localhost");
    }
    if method != "GET" {
        return plain("405 Method Not Allowed", "only GET");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !["/", "/state"].contains(&path) {
        return plain("404 Not Found", "nothing here; the page is at /");
    }
    let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
    latest.refresh(source);
    let mark = format!("{:016x}", latest.mark);
    if path == "/" {
        let text = match (&latest.report, &latest.error) {
            (Some(report), _) => page(report, &mark).unwrap_or_else(|error| waiting(&one_line(&error))),
            (None, why) => waiting(why.as_deref().unwrap_or_default()),
        };
        return ("200 OK", "text/html", text);
    }
    let report = latest.report.as_ref().filter(|_| query != mark);
    let state = serde_json::json!({ "mark": mark, "error": latest.error, "data": report });
    ("200 OK", "application/json", in_script(&state.to_string()))
}

/// The page while there is nothing to show.
fn waiting(why: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"3\">\
         <link rel=\"icon\" href=\"data:,\"><title>steadfast</title>\
         <body style=\"font:16px system-ui;margin:3rem;color-scheme:light dark\"><h1>Waiting for results</h1><p>{}</p>",
        escaped(why)
    )
}

/// Names, sizes and times of the files that a report is made of.
fn mark(source: &Source) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in &source.paths {
        look(path, 8, &mut hasher);
    }
    hasher.finish()
}

fn look(path: &Path, depth: usize, hasher: &mut DefaultHasher) {
    let Ok(about) = fs::metadata(path) else { return };
    if about.is_dir() {
        let children = path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        let mut children: Vec<_> = children.collect();
        children.sort();
        if depth > 0 {
            children.iter().for_each(|child| look(child, depth - 1, hasher));
        }
        return;
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if ["csv", "json", "jsonl", "toml", "gif", "png"].contains(&extension) {
        path.hash(hasher);
        about.len().hash(hasher);
        about.modified().ok().hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::across;

    const ROWS: &str = "agent,env,seed,step,episodes,return_mean,return_std,return_min,return_max,length_mean\nppo,E,0,0,1,1,0,0,9,1\n";

    fn ask(target: &str, host: &str, source: &Source, latest: &Mutex<Latest>) -> (&'static str, String) {
        let head = format!("GET {target} HTTP/1.1\r\nAccept: */*\r\nhost: {host}\r\n\r\n");
        let (status, _, body) = respond(&head, source, latest);
        // As if time had passed.
        latest.lock().unwrap().next = None;
        (status, body)
    }

    #[test]
    fn the_page_follows_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let scales = across::scales(None).unwrap();
        let source = Source { paths: vec![folder.path().to_owned()], scales, ..Source::default() };
        let latest = Mutex::new(Latest::default());
        let get = |target: &str| ask(target, "127.0.0.1:80", &source, &latest);
        let (status, body) = get("/");
        assert_eq!(status, "200 OK");
        assert!(body.contains("no eval.csv under") && body.contains("http-equiv=\"refresh\""), "{body}");

        let file = folder.path().join("eval.csv");
        fs::write(&file, ROWS).unwrap();
        let (_, body) = get("/");
        let state = |query: &str| -> serde_json::Value {
            serde_json::from_str(&get(&format!("/state?{query}")).1).unwrap()
        };
        let mark = state("")["mark"].as_str().unwrap().to_owned();
        assert!(body.contains(&format!("data-live=\"{mark}\"")));
        assert!(state(&mark)["data"].is_null());

        // A new row: what is new comes once.
        fs::write(&file, format!("{ROWS}ppo,E,0,100,1,5,0,0,9,1\n")).unwrap();
        let news = state(&mark);
        assert_eq!(news["data"]["runs"][0]["returns"], serde_json::json!([1, 5]));
        assert!(state(news["mark"].as_str().unwrap())["data"].is_null());

        // Half a row: the error is told, the page stays.
        fs::write(&file, format!("{ROWS}ppo,E,0,10")).unwrap();
        let half = state(news["mark"].as_str().unwrap());
        assert!(half["error"].as_str().unwrap().contains("line 3 has 4 columns"), "{half}");
        assert_eq!((&half["mark"], &half["data"]), (&news["mark"], &serde_json::Value::Null));
        assert!(get("/").1.contains("<h1 id=\"title\">"));
    }

    #[test]
    fn other_hosts_methods_and_addresses_are_refused() {
        let source = Source::default();
        let latest = Mutex::new(Latest::default());
        assert!(ask("/", "evil.example", &source, &latest).0.starts_with("403"));
        assert!(ask("/", "", &source, &latest).0.starts_with("403"));
        assert!(ask("/../etc/passwd", "localhost:1", &source, &latest).0.starts_with("404"));
        assert!(respond("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", &source, &latest).0.starts_with("405"));
        assert!(respond("", &source, &latest).0.starts_with("403"));
    }

    #[test]
    fn it_answers_on_a_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            answer(stream, &Source::default(), &Mutex::new(Latest::default())).unwrap();
        });
        let mut stream = TcpStream::connect(address).unwrap();
        // The head may come in pieces.
        stream.write_all(b"GET /none HTTP/1.1\r\nHost: loc").unwrap();
        stream.write_all(b"alhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        server.join().unwrap();
        assert!(text.starts_with("HTTP/1.1 404") && text.ends_with("the page is at /"), "{text}");
    }
}
