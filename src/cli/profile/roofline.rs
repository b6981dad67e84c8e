//! The roofline as SVG (Williams, Waterman and Patterson 2009): FLOP/s over FLOPs per byte, a labelled point for each kernel.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::gpu::profile::summary::{Group, Roof};
use crate::train::plot::{FONT, GRID, INK, register};

const SIZE: (u32, u32) = (1120, 720);
const ROOF: RGBColor = RGBColor(96, 102, 112);
const FAINT: RGBColor = RGBColor(128, 134, 144);
/// By kernel file, in order of time taken; the rest shares the last one.
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

/// A box in pixels: left, top, right, bottom.
type Frame = [i32; 4];

struct Point {
    label: String,
    at: (f64, f64),
    share: f64,
    colour: RGBColor,
}

/// The picture of kernels that compute something.
///
/// # Errors
/// What could not be drawn.
pub fn svg(kernels: &[Group], roof: &Roof, title: &str) -> Result<String, String> {
    let points = points(kernels);
    if points.is_empty() || roof.flops <= 0.0 || roof.bandwidth <= 0.0 {
        return Err("nothing to draw: no kernel with operations took any time".into());
    }
    register()?;
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), &points, roof, title).map_err(|e| e.to_string())?;
    Ok(svg)
}

fn points(kernels: &[Group]) -> Vec<Point> {
    let total: f64 = kernels.iter().map(|kernel| kernel.seconds).sum();
    let mut files: Vec<&str> = vec![];
    let mut points = vec![];
    for kernel in kernels.iter().filter(|kernel| kernel.flops > 0 && kernel.seconds > 0.0) {
        let file = kernel.name.split('.').next().unwrap_or_default();
        if !files.contains(&file) {
            files.push(file);
        }
        let colour = files.iter().position(|f| *f == file).unwrap_or_default().min(COLOURS.len() - 1);
        let share = kernel.seconds / total;
        let label = format!("{} {:.1} %", kernel.name, 100.0 * share);
        points.push(Point { label, at: (kernel.intensity(), kernel.rate() / 1e9), share, colour: COLOURS[colour] });
    }
    points
}

/// Whole decades around the points and the roof's ridge.
fn ranges(points: &[Point], roof: &Roof) -> [Range<f64>; 2] {
    let ridge = roof.flops / roof.bandwidth;
    let xs = || points.iter().map(|p| p.at.0).chain([ridge]);
    let ys = || points.iter().map(|p| p.at.1).chain([roof.flops / 1e9]);
    let low = |x: f64| 10f64.powf((x.log10() - 0.1).floor());
    let (left, right) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let (bottom, top) = (ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
    [low(left)..right * 6.0, low(bottom)..top * 3.0]
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn draw<B: DrawingBackend>(area: DrawingArea<B, Shift>, points: &[Point], roof: &Roof, title: &str) -> Drawn<B> {
    let text = |size: u32| (FONT, size).into_font().color(&INK);
    area.fill(&WHITE)?;
    area.draw(&Text::new("Kernels of a training step against this adapter's roof", (78, 14), text(19)))?;
    area.draw(&Text::new(title, (78, 40), (FONT, 13).into_font().color(&ROOF)))?;
    let [xs, ys] = ranges(points, roof);
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
        .x_desc("arithmetic intensity (FLOPs per byte of tensors bound)")
        .y_desc("GFLOP/s")
        .label_style(text(13))
        .axis_desc_style(text(14))
        .set_all_tick_mark_size(4)
        .draw()?;
    let ridge = roof.flops / roof.bandwidth;
    let height = |x: f64| roof.attainable(x) / 1e9;
    // From where the slope enters the picture to the ridge, and on to the right edge.
    let first = xs.start.max(ys.start * 1e9 / roof.bandwidth);
    let line = [first, ridge.clamp(first, xs.end), xs.end].map(|x| (x, height(x)));
    chart.draw_series(LineSeries::new(line, ROOF.stroke_width(3)))?;
    let place = |at: (f64, f64)| chart.plotting_area().map_coordinate(&at);
    let mut taken: Vec<Frame> = line.windows(2).flat_map(|ends| along(place(ends[0]), place(ends[1]))).collect();
    let marks: Vec<(i32, i32)> = points.iter().map(|p| place(p.at)).collect();
    taken.extend(marks.iter().zip(points).map(|((x, y), p)| [x - radius(p), y - radius(p), x + radius(p), y + radius(p)]));
    let (corner, end) = (place((xs.start, ys.end)), place((xs.end, ys.start)));
    let inside = [corner.0 + 4, corner.1 + 4, end.0 - 4, end.1 - 4];
    roof_labels(&area, roof, place((xs.end, height(xs.end))), place(line[0]), place(line[1]), inside, &mut taken)?;
    for (point, mark) in points.iter().zip(&marks) {
        area.draw(&Circle::new(*mark, radius(point), point.colour.mix(0.55).filled()))?;
        area.draw(&Circle::new(*mark, radius(point), point.colour.stroke_width(1)))?;
    }
    for (point, mark) in points.iter().zip(&marks) {
        label(&area, point, *mark, inside, &mut taken)?;
    }
    area.present()
}

/// The area of a point is its share of the time, as far as it can be seen.
fn radius(point: &Point) -> i32 {
    (3.5 + 26.0 * (point.share / std::f64::consts::PI).sqrt()).round() as i32
}

/// Small boxes along a line, which no label may cover.
fn along(from: (i32, i32), to: (i32, i32)) -> Vec<Frame> {
    let steps = ((to.0 - from.0).abs().max((to.1 - from.1).abs()) / 6).max(1);
    let at = |i: i32| (from.0 + (to.0 - from.0) * i / steps, from.1 + (to.1 - from.1) * i / steps);
    (0..=steps).map(at).map(|(x, y)| [x - 3, y - 3, x + 3, y + 3]).collect()
}

fn overlaps(a: &Frame, b: &Frame) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

fn roof_labels<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    roof: &Roof,
    flat_end: (i32, i32),
    slope_start: (i32, i32),
    ridge: (i32, i32),
    inside: Frame,
    taken: &mut Vec<Frame>,
) -> Drawn<B> {
    let style = |h| (FONT, 13).into_font().color(&ROOF).pos(Pos::new(h, VPos::Bottom));
    let flat = format!("{:.1} GFLOP/s of multiply-adds, measured", roof.flops / 1e9);
    let (width, height) = area.estimate_text_size(&flat, &style(HPos::Left))?;
    let (right, y) = (inside[2] - 2, flat_end.1 - 6);
    area.draw(&Text::new(flat, (right - width as i32, y), style(HPos::Left)))?;
    taken.push([right - width as i32, y - height as i32 - 4, right, y]);
    // It ends at the slope, as low as there is room for it on the left.
    let slope = format!("{:.1} GB/s copied, measured", roof.bandwidth / 1e9);
    let (width, height) = area.estimate_text_size(&slope, &style(HPos::Left))?;
    let per_pixel = f64::from(slope_start.1 - ridge.1) / f64::from((ridge.0 - slope_start.0).max(1));
    let needed = (inside[0] + width as i32 + 24 - slope_start.0).max(0);
    let (x, y) = (slope_start.0 + needed - width as i32 - 20, slope_start.1 - (f64::from(needed) * per_pixel) as i32);
    area.draw(&Text::new(slope, (x, y), style(HPos::Left)))?;
    taken.push([x, y - height as i32 - 4, x + width as i32, y]);
    Ok(())
}

/// At the nearest free place around the point, with a thin line where that is not beside it.
fn label<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    point: &Point,
    mark: (i32, i32),
    inside: Frame,
    taken: &mut Vec<Frame>,
) -> Drawn<B> {
    let style = (FONT, LABEL).into_font().color(&point.colour).pos(Pos::new(HPos::Left, VPos::Center));
    let width = area.estimate_text_size(&point.label, &style)?.0 as i32;
    let half = LABEL as i32 / 2 + 2;
    let frame = |(x, y): (i32, i32)| [x - 2, y - half, x + width + 2, y + half];
    let free = |at: &(i32, i32)| {
        let f = frame(*at);
        let fits = f[0] >= inside[0] && f[1] >= inside[1] && f[2] <= inside[2] && f[3] <= inside[3];
        fits && !taken.iter().any(|other| overlaps(&f, other))
    };
    let near = radius(point) + 5;
    let ring = |far: i32| {
        (0..24).map(move |turn| {
            let angle = f64::from(turn) * std::f64::consts::TAU / 24.0;
            let (dx, dy) = (f64::from(near + far) * angle.cos(), f64::from(near + far) * angle.sin());
            // Left of the point a label ends there, right of it it begins there.
            let left = if dx < -1.0 {
                width
            } else if dx > 1.0 {
                0
            } else {
                width / 2
            };
            (mark.0 + dx as i32 - left, mark.1 + dy as i32)
        })
    };
    let found = (0..40).flat_map(|i| ring(i * 6)).find(|at| free(at));
    let (x, y) = found.unwrap_or((mark.0 + near, mark.1));
    let f = frame((x, y));
    let nearest = (mark.0.clamp(f[0], f[2]), mark.1.clamp(f[1], f[3]));
    if (nearest.0 - mark.0).abs().max((nearest.1 - mark.1).abs()) > near + 8 {
        area.draw(&PathElement::new([mark, nearest], FAINT.mix(0.8)))?;
    }
    area.draw(&Text::new(point.label.as_str(), (x, y), style))?;
    taken.push(f);
    Ok(())
}

/// `0.01`, `1`, `100`, `10,000`.
fn power(x: f64) -> String {
    match x {
        _ if x >= 999.5 => crate::cli::output::count(x.round() as u64),
        _ if x >= 0.9995 => format!("{x:.0}"),
        _ => format!("{x:.6}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, seconds: f64, flops: u64, bytes: u64) -> Group {
        Group { name: name.into(), variants: vec![], calls: 1, seconds, flops, bytes, least_seconds: 0.0 }
    }

    #[test]
    fn every_kernel_gets_a_point_and_a_label_of_its_own() {
        let mut kernels: Vec<Group> = (0..30).map(|i| kernel(&format!("op_{}.k{i}", i / 4), 1e-3, 1_000_000 + i, 900_000)).collect();
        kernels.push(kernel("clear", 1e-3, 0, 100));
        let svg = svg(&kernels, &Roof { flops: 2e10, bandwidth: 8e9 }, "a <GPU>").unwrap();
        assert_eq!(svg.matches(" %\n</text>").count(), 30, "{svg}");
        assert!(svg.contains("a &lt;GPU&gt;") && svg.contains("20.0 GFLOP/s") && svg.contains("8.0 GB/s"));
        assert!(!svg.contains("NaN") && !svg.contains("clear"));
    }

    #[test]
    fn refuses_what_it_cannot_draw() {
        let roof = Roof { flops: 2e10, bandwidth: 8e9 };
        assert!(svg(&[], &roof, "").is_err());
        assert!(svg(&[kernel("clear", 1.0, 0, 9)], &roof, "").is_err());
    }

    #[test]
    fn powers_read_well() {
        let cases = [(0.01, "0.01"), (1.0, "1"), (100.0, "100"), (1000.0, "1,000")];
        cases.iter().for_each(|(x, text)| assert_eq!(power(*x), *text));
    }
}
