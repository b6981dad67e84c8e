//! What snapshots in host memory cost: the same steps without any, with one a second, and with as many as fit between steps.
//!
//!     cargo bench --bench snapshots -- shakespeare-char 20 10 --record
//!
//! The shape, the rounds, and the steps of a round; the three trainers take turns in each round. The medians over the rounds are compared.

use std::time::Instant;

use cpu_time::ProcessTime;
use wgpt::{Gpu, Options, Request, Trainer, block_on};

#[path = "common/record.rs"]
mod record;
#[path = "common/shapes.rs"]
mod shapes;

/// A trainer, and the milliseconds of CPU and of wall time that its steps took in each round.
struct Side {
    name: &'static str,
    trainer: Trainer,
    cpu: Vec<f64>,
    wall: Vec<f64>,
    snapshots: u32,
}

impl Side {
    fn round(&mut self, steps: u32, ids: &[u32]) {
        let begun = (Instant::now(), ProcessTime::now());
        let mut kept = self.trainer.kept().map(|state| state.step);
        for _ in 0..steps {
            self.trainer.step_on(ids, ids).expect("a step");
            let newest = self.trainer.kept().map(|state| state.step);
            self.snapshots += u32::from(newest != kept);
            kept = newest;
        }
        self.trainer.finish().expect("reports");
        let each = |seconds: f64| seconds * 1e3 / f64::from(steps);
        self.cpu.push(each(begun.1.elapsed().as_secs_f64()));
        self.wall.push(each(begun.0.elapsed().as_secs_f64()));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let name = words.next().unwrap_or("shakespeare-char".into());
    let mut number = |default: u32| words.next().and_then(|word| word.parse().ok()).unwrap_or(default);
    let (rounds, steps) = (number(20), number(10));
    let config = shapes::config(&name).expect("a shape");
    let gpu = pollster::block_on(Gpu::request(&Request::default())).expect("an adapter");
    let mut record = record::Record::new(&gpu, "snapshots");
    let side = |(name, every): (&'static str, f64)| {
        let mut config = config.clone();
        config.train.snapshot_every = every;
        let memory = Trainer::memory(&gpu, &config, &Options::default()).expect("it fits");
        let bytes = memory.classes.iter().find(|(class, _)| *class == "snapshots").map_or(0, |(_, bytes)| *bytes);
        println!(
            "{name}: {:.2} MiB of buffers, up to {:.2} MiB of host memory",
            bytes as f64 / f64::from(1 << 20),
            memory.host as f64 / f64::from(1 << 20)
        );
        let trainer = block_on(&gpu, Trainer::new(&gpu, &config, &Options::default())).expect("a trainer");
        Side { name, trainer, cpu: vec![], wall: vec![], snapshots: 0 }
    };
    let mut sides: Vec<Side> = [("none", 0.0), ("one a second", 1.0), ("all the time", 1e-9)].into_iter().map(side).collect();
    let tokens = sides[0].trainer.tokens_per_step() as u32;
    let ids: Vec<u32> = (0..tokens).map(|i| i.wrapping_mul(2_654_435_761) % config.model.vocab_size as u32).collect();
    for _ in 0..2 {
        sides.iter_mut().for_each(|side| side.round(3, &ids));
    }
    for side in &mut sides {
        (side.cpu, side.wall, side.snapshots) = (vec![], vec![], 0);
    }
    for round in 0..rounds as usize {
        // Each is first, second and last equally often.
        (0..3).for_each(|turn| sides[(round + turn) % 3].round(steps, &ids));
    }
    let (cpu, wall) = (median(&sides[0].cpu), median(&sides[0].wall));
    for Side { name: taken, cpu: own_cpu, wall: own_wall, snapshots, .. } in &sides {
        let (own_cpu, own_wall) = (median(own_cpu), median(own_wall));
        println!(
            "{taken}: {own_cpu:.1} CPU ms and {own_wall:.1} ms a step, {:.4} and {:.4} times those without; {snapshots} snapshots in {} steps",
            own_cpu / cpu,
            own_wall / wall,
            rounds * steps
        );
        let case = format!("{name}, {taken}, median of {rounds} in turns");
        record.add(&case, "CPU ms a step", own_cpu);
        if *snapshots > 0 {
            record.add(&case, "CPU ms over those of none", own_cpu / cpu);
            record.add(&case, "snapshots a step", f64::from(*snapshots) / f64::from(rounds * steps));
        }
    }
    record.finish();
}
