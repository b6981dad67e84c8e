//! The roofline (Williams, Waterman and Patterson 2009): FLOP/s over FLOPs per byte, a labelled point for each kernel.

mod labels;

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use labels::{Frame, Label, along, place};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::files;
use crate::gpu::profile::summary::{KernelGroup, Roof};
use crate::train::plot::{FONT, GRID, INK, register};

const SIZE: (u32, u32) = (1120, 720);
const ROOF: RGBColor = RGBColor(96, 102, 112);
const FAINT: RGBColor = RGBColor(128, 134, 144);
/// Colours by kernel file, in order of time taken; the remaining files share the last one.
const COLOURS: [RGBColor; 7] = [
    RGBColor(38, 104, 190),
    RGBColor(217, 84, 26),
    RGBColor(30, 138, 90),
    RGBColor(146, 70, 170),
    RGBColor(190, 140, 20),
    RGBColor(200, 50, 90),
    RGBColor(90, 96, 108),
];
const LABEL: u32 = 12;

/// The format that a file's extension selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Svg,
    Png,
}

impl Format {
    /// # Errors
    /// [`Error::Usage`] for another extension.
    pub fn of(path: &Path) -> Result<Format> {
        match path.extension().map(|ending| ending.to_ascii_lowercase()) {
            Some(ending) if ending == "svg" => Ok(Format::Svg),
            Some(ending) if ending == "png" => Ok(Format::Png),
            _ => Err(Error::usage(format!("--plot {}: needs a name that ends in .svg or .png", path.display()))),
        }
    }
}

struct Point {
    label: String,
    /// FLOPs per byte and GFLOP/s.
    at: (f64, f64),
    share: f64,
    colour: RGBColor,
    /// Whether it has no FLOPs: then it is a square at the left edge, as far below the slope as its bandwidth is below the roof's.
    moves_only: bool,
}

/// Draws all kernels that took time, in the format that the path's extension selects.
///
/// # Errors
/// [`Error::File`] for what cannot be drawn or written, [`Error::Usage`] as [`Format::of`].
pub fn save(kernels: &[KernelGroup], roof: &Roof, title: &str, path: &Path) -> Result<()> {
    let format = Format::of(path)?;
    let [xs, ys] = ranges(kernels, roof).map_err(|problem| Error::file(path, problem))?;
    let points = points(kernels, xs.start);
    register().map_err(|problem| Error::file(path, problem))?;
    let chart = Chart { points: &points, roof, title, ranges: [xs, ys] };
    match format {
        Format::Svg => {
            let mut svg = String::new();
            let drawn = draw(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), &chart);
            drawn.map_err(|e| Error::file(path, e))?;
            files::write(path, |out| out.write_all(svg.as_bytes()))
        }
        Format::Png => {
            files::write_by_path(path, |path| draw(BitMapBackend::new(path, SIZE).into_drawing_area(), &chart).map_err(|e| e.to_string()))
        }
    }
}

/// `left` is the lowest intensity in the picture.
fn points(kernels: &[KernelGroup], left: f64) -> Vec<Point> {
    let total: f64 = kernels.iter().map(|kernel| kernel.seconds).sum();
    let mut files: Vec<&str> = vec![];
    let mut points = vec![];
    for kernel in kernels.iter().filter(|kernel| kernel.seconds > 0.0) {
        let file = kernel.name.split('.').next().unwrap_or_default();
        if !files.contains(&file) {
            files.push(file);
        }
        let colour = files.iter().position(|f| *f == file).unwrap_or_default().min(COLOURS.len() - 1);
        let (share, moves_only) = (kernel.seconds / total, kernel.flops == 0);
        let at = if moves_only { moving(kernel, left) } else { (kernel.intensity(), kernel.rate() / 1e9) };
        let label = format!("{} {:.1} %", kernel.name, 100.0 * share);
        points.push(Point { label, at, share, colour: COLOURS[colour], moves_only });
    }
    points
}

/// Position of a kernel without FLOPs: just inside the left edge.
fn moving(kernel: &KernelGroup, left: f64) -> (f64, f64) {
    let x = left * 1.2;
    (x, x * kernel.bandwidth() / 1e9)
}

/// Ranges of the axes: whole decades around the kernels and the roof's ridge.
fn ranges(kernels: &[KernelGroup], roof: &Roof) -> Result<[Range<f64>; 2], &'static str> {
    if !kernels.iter().any(|kernel| kernel.seconds > 0.0) {
        return Err("nothing to draw: no kernel took any time");
    }
    if roof.flops <= 0.0 || roof.bandwidth <= 0.0 {
        return Err("nothing to draw: the roof could not be measured");
    }
    let computing = || kernels.iter().filter(|kernel| kernel.seconds > 0.0 && kernel.flops > 0);
    let low = |x: f64| 10f64.powf((x.log10() - 0.1).floor());
    let xs = || computing().map(KernelGroup::intensity).chain([roof.flops / roof.bandwidth]);
    let (first, right) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let left = low(first);
    let still = || kernels.iter().filter(|kernel| kernel.seconds > 0.0 && kernel.flops == 0 && kernel.bytes > 0);
    let ys = || computing().map(|kernel| kernel.rate() / 1e9).chain(still().map(|kernel| moving(kernel, left).1)).chain([roof.flops / 1e9]);
    let (bottom, top) = (ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
    Ok([left..right * 6.0, low(bottom)..top * 3.0])
}

/// The contents of the chart.
struct Chart<'a> {
    points: &'a [Point],
    roof: &'a Roof,
    title: &'a str,
    ranges: [Range<f64>; 2],
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn draw<B: DrawingBackend>(area: DrawingArea<B, Shift>, what: &Chart) -> Drawn<B> {
    let Chart { points, roof, title, ranges: [xs, ys] } = what;
    let text = |size: u32| (FONT, size).into_font().color(&INK);
    area.fill(&WHITE)?;
    area.draw(&Text::new("Kernels of a training step against this adapter's roof", (78, 14), text(19)))?;
    let squares = if points.iter().any(|point| point.moves_only) { "; squares: no FLOPs, so only the slope counts" } else { "" };
    area.draw(&Text::new(format!("{title}{squares}"), (78, 40), (FONT, 13).into_font().color(&ROOF)))?;
    let mut chart = ChartBuilder::on(&area)
        .margin_top(66)
        .margin_right(26)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d(xs.clone().log_scale(), ys.clone().log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(GRID.mix(0.35))
        .bold_line_style(GRID)
        .axis_style(INK.mix(0.5))
        .x_label_formatter(&|x| power(*x))
        .y_label_formatter(&|y| power(*y))
        .x_desc("arithmetic intensity (FLOPs per byte read or written)")
        .y_desc("GFLOP/s")
        .label_style(text(13))
        .axis_desc_style(text(14))
        .set_all_tick_mark_size(4)
        .draw()?;
    let ridge = roof.flops / roof.bandwidth;
    let height = |x: f64| roof.attainable(x) / 1e9;
    // The roof runs from where the slope enters the picture to the ridge, and on to the right edge.
    let first = xs.start.max(ys.start * 1e9 / roof.bandwidth);
    let line = [first, ridge.clamp(first, xs.end), xs.end].map(|x| (x, height(x)));
    chart.draw_series(LineSeries::new(line, ROOF.stroke_width(3)))?;
    let pixel = |at: (f64, f64)| chart.plotting_area().map_coordinate(&at);
    let mut taken: Vec<Frame> = line.windows(2).flat_map(|ends| along(pixel(ends[0]), pixel(ends[1]))).collect();
    let marks: Vec<(i32, i32)> = points.iter().map(|p| pixel(p.at)).collect();
    taken.extend(marks.iter().zip(*points).map(|((x, y), p)| [x - radius(p), y - radius(p), x + radius(p), y + radius(p)]));
    let (corner, end) = (pixel((xs.start, ys.end)), pixel((xs.end, ys.start)));
    let inside = [corner.0 + 4, corner.1 + 4, end.0 - 4, end.1 - 4];
    let mut written = vec![];
    roof_labels(&area, roof, pixel((xs.end, height(xs.end))), pixel(line[0]), pixel(line[1]), inside, &mut written)?;
    let mut wanted = vec![];
    for (point, mark) in points.iter().zip(&marks) {
        let width = area.estimate_text_size(&point.label, &(FONT, LABEL).into_font().color(&INK))?.0 as i32;
        wanted.push(Label { mark: *mark, radius: radius(point), width });
    }
    let placed = place(&wanted, LABEL as i32, inside, &taken, written);
    for (from, to) in placed.iter().filter_map(|place| place.leader) {
        area.draw(&PathElement::new([from, to], FAINT.mix(0.8)))?;
    }
    for (point, mark) in points.iter().zip(&marks) {
        draw_mark(&area, point, *mark)?;
    }
    for (point, place) in points.iter().zip(&placed) {
        draw_label(&area, point, place)?;
    }
    area.present()
}

fn draw_mark<B: DrawingBackend>(area: &DrawingArea<B, Shift>, point: &Point, (x, y): (i32, i32)) -> Drawn<B> {
    let r = radius(point);
    for style in [point.colour.mix(0.55).filled(), point.colour.stroke_width(1)] {
        if point.moves_only {
            area.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], style))?;
        } else {
            area.draw(&Circle::new((x, y), r, style))?;
        }
    }
    Ok(())
}

/// On a background of its own, which hides the grid and lines that could not avoid it.
fn draw_label<B: DrawingBackend>(area: &DrawingArea<B, Shift>, point: &Point, place: &labels::LabelBox) -> Drawn<B> {
    let [left, top, right, bottom] = place.frame;
    area.draw(&Rectangle::new([(left, top), (right, bottom)], WHITE.filled()))?;
    let style = (FONT, LABEL).into_font().color(&point.colour).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(point.label.as_str(), (left + labels::MARGIN, (top + bottom) / 2), style))
}

/// A point's area grows with its share of the time, from a visible minimum.
fn radius(point: &Point) -> i32 {
    (3.5 + 26.0 * (point.share / std::f64::consts::PI).sqrt()).round() as i32
}

fn roof_labels<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    roof: &Roof,
    flat_end: (i32, i32),
    slope_start: (i32, i32),
    ridge: (i32, i32),
    inside: Frame,
    written: &mut Vec<Frame>,
) -> Drawn<B> {
    let style = |h| (FONT, 13).into_font().color(&ROOF).pos(Pos::new(h, VPos::Bottom));
    let flat = format!("{:.1} GFLOP/s of multiply-adds", roof.flops / 1e9);
    let (width, height) = area.estimate_text_size(&flat, &style(HPos::Left))?;
    let (right, y) = (inside[2] - 2, flat_end.1 - 6);
    area.draw(&Text::new(flat, (right - width as i32, y), style(HPos::Left)))?;
    written.push([right - width as i32, y - height as i32 - 4, right, y]);
    // It ends at the slope, as low as the room on the left allows.
    let slope = format!("{:.1} GB/s copied", roof.bandwidth / 1e9);
    let (width, height) = area.estimate_text_size(&slope, &style(HPos::Left))?;
    let per_pixel = f64::from(slope_start.1 - ridge.1) / f64::from((ridge.0 - slope_start.0).max(1));
    let needed = (inside[0] + width as i32 + 24 - slope_start.0).max(0);
    let (x, y) = (slope_start.0 + needed - width as i32 - 20, slope_start.1 - (f64::from(needed) * per_pixel) as i32);
    area.draw(&Text::new(slope, (x, y), style(HPos::Left)))?;
    written.push([x, y - height as i32 - 4, x + width as i32, y]);
    Ok(())
}

/// `1e-5`, `0.01`, `1`, `100`, `10,000`.
fn power(x: f64) -> String {
    match x {
        _ if x >= 999.5 => crate::cli::output::count(x.round() as u64),
        _ if x >= 0.9995 => format!("{x:.0}"),
        _ if x >= 0.000_95 => format!("{x:.6}").trim_end_matches('0').to_owned(),
        _ => format!("{x:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, seconds: f64, flops: u64, bytes: u64) -> KernelGroup {
        KernelGroup { name: name.into(), variants: vec![], calls: 1, seconds, flops, bytes, least_seconds: 0.0 }
    }

    fn picture(name: &str, kernels: &[KernelGroup], roof: &Roof, title: &str) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        save(kernels, roof, title, &path).map(|()| std::fs::read(&path).unwrap())
    }

    const ROOF: Roof = Roof { flops: 2e10, bandwidth: 8e9 };

    #[test]
    fn every_kernel_gets_a_point_and_a_label_of_its_own() {
        let mut kernels: Vec<KernelGroup> = (0..30).map(|i| kernel(&format!("op_{}.k{i}", i / 4), 1e-3, 1_000_000 + i, 900_000)).collect();
        kernels.push(kernel("clear", 1e-3, 0, 100));
        kernels.push(kernel("unused.k", 0.0, 100, 100));
        let svg = String::from_utf8(picture("a.svg", &kernels, &ROOF, "a <GPU>").unwrap()).unwrap();
        assert_eq!(svg.matches(" %\n</text>").count(), 31, "{svg}");
        assert!(svg.contains("clear 3.2 %") && svg.contains("no FLOPs") && !svg.contains("unused"), "{svg}");
        assert!(svg.contains("a &lt;GPU&gt;") && svg.contains("20.0 GFLOP/s") && svg.contains("8.0 GB/s"));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn a_kernel_without_flops_is_as_far_from_the_slope_as_from_its_roof() {
        let half = kernel("copy", 1.0, 0, 4_000_000_000);
        let point = &points(&[half], 0.01)[0];
        assert!(point.moves_only && (point.at.1 * 1e9 / ROOF.attainable(point.at.0) - 0.5).abs() < 1e-9, "{:?}", point.at);
        assert!(picture("a.svg", &[kernel("clear", 1.0, 0, 9)], &ROOF, "").is_ok());
    }

    #[test]
    fn the_ending_names_the_format() {
        let kernels = [kernel("a.f", 1e-3, 1000, 1000)];
        assert!(picture("a.png", &kernels, &ROOF, "").unwrap().starts_with(b"\x89PNG"));
        assert!(picture("a.PNG", &kernels, &ROOF, "").unwrap().starts_with(b"\x89PNG"));
        for name in ["a.jpg", "a", "png"] {
            let message = picture(name, &kernels, &ROOF, "").unwrap_err().to_string();
            assert!(message.contains("needs a name that ends in .svg or .png"), "{message}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_draw() {
        assert!(picture("a.svg", &[], &ROOF, "").is_err());
        assert!(picture("a.svg", &[kernel("a.f", 0.0, 1, 9)], &ROOF, "").is_err());
        assert!(picture("a.svg", &[kernel("a.f", 1.0, 1, 9)], &Roof { flops: 0.0, bandwidth: 1.0 }, "").is_err());
    }

    #[test]
    fn powers_read_well() {
        let cases = [(1e-7, "1e-7"), (0.001, "0.001"), (0.01, "0.01"), (1.0, "1"), (100.0, "100"), (1000.0, "1,000")];
        cases.iter().for_each(|(x, text)| assert_eq!(power(*x), *text));
    }
}
