//! The last timed step as a Chrome trace, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
//!
//! Format: "Trace Event Format", Google 2016: complete events (`ph` X) with `ts` and `dur` in microseconds. Phases, layers and dispatches
//! are nested on one track.

use serde_json::{Value, json};

use super::ProfileRow;
use super::summary::Roof;

/// The trace as JSON. `layer` names the layer a row belongs to; consecutive rows of one layer become one event.
pub fn chrome(rows: &[ProfileRow], roof: &Roof, process: &str, layer: impl Fn(&ProfileRow) -> String) -> String {
    let mut order: Vec<&ProfileRow> = rows.iter().collect();
    order.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    let mut events = vec![meta("process_name", process), meta("thread_name", "device")];
    events.extend(spans(&order, |row| row.phase.to_owned(), "phase"));
    events.extend(spans(&order, |row| format!("{} {}", row.phase, layer(row)), "layer"));
    events.extend(order.iter().map(|row| event(row, roof)));
    let trace = json!({ "displayTimeUnit": "ms", "traceEvents": events });
    trace.to_string()
}

fn meta(name: &str, value: &str) -> Value {
    json!({ "ph": "M", "name": name, "pid": 1, "tid": 1, "ts": 0.0, "dur": 0.0, "args": { "name": value } })
}

fn complete(name: &str, category: &str, begin: f64, end: f64, args: Value) -> Value {
    json!({ "ph": "X", "name": name, "cat": category, "pid": 1, "tid": 1, "ts": begin * 1e6, "dur": (end - begin) * 1e6, "args": args })
}

/// Merges consecutive rows of the same name into one event.
fn spans(order: &[&ProfileRow], name: impl Fn(&ProfileRow) -> String, category: &str) -> Vec<Value> {
    let stretches = order.chunk_by(|a, b| name(a) == name(b));
    let span = |rows: &[&ProfileRow]| {
        let end = rows.iter().map(|row| row.begin + row.last).fold(0.0, f64::max);
        // The name of a layer's event omits the phase, which is the event above it.
        let full = name(rows[0]);
        let short = full.rsplit(' ').next().unwrap_or(&full);
        complete(short, category, rows[0].begin, end, json!({ "dispatches": rows.len() }))
    };
    stretches.map(span).collect()
}

fn event(row: &ProfileRow, roof: &Roof) -> Value {
    let seconds = row.last.max(1e-12);
    let args = json!({
        "layer": row.scope,
        "variant": row.variant,
        "calls": row.calls,
        "FLOPs": row.flops,
        "bytes": row.bytes,
        "GFLOP/s": row.flops as f64 / seconds / 1e9,
        "GB/s": row.bytes as f64 / seconds / 1e9,
        "percent of roof": 100.0 * roof.least_seconds(row.flops, row.bytes) / seconds,
    });
    complete(&row.kernel, "dispatch", row.begin, row.begin + row.last, args)
}
