//! The loss curve of a run, as SVG and PNG.

use std::io::Write;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::metrics::Record;
use crate::error::{Error, Result};
use crate::files;

/// The SVG in pixels; the PNG has `PNG_SCALE` times as many.
const SIZE: (u32, u32) = (860, 520);
const PNG_SCALE: u32 = 2;
/// More points than this are not visible on so few pixels, and make the SVG large.
const MOST_POINTS: usize = 1600;

/// The name under which the font is registered with plotters; it is also a font list that SVG viewers understand.
pub(crate) const FONT: &str = "DejaVu Sans, Verdana, Helvetica, sans-serif";
pub(crate) const INK: RGBColor = RGBColor(40, 44, 52);
pub(crate) const GRID: RGBColor = RGBColor(228, 231, 236);
const TRAINING: RGBColor = RGBColor(38, 104, 190);
const VALIDATION: RGBColor = RGBColor(217, 84, 26);
const REFERENCE: RGBColor = RGBColor(96, 102, 112);

type Points = Vec<(f64, f64)>;

/// Draws the training loss (records faint, their moving average bold), the validation loss (points) and, if given, a dashed horizontal line
/// such as `("bigram model", 4.9)`. Losses are in nats. Both files are replaced atomically.
///
/// # Errors
/// [`Error::File`] when no record has a finite loss, or a file cannot be written.
pub fn loss_curve(records: &[Record], title: &str, reference: Option<(&str, f64)>, svg_path: &Path, png_path: &Path) -> Result<()> {
    let pick = |loss: fn(&Record) -> Option<f64>| -> Points {
        let points = records.iter().filter_map(|r| Some((r.step as f64, loss(r)?)));
        points.filter(|(_, loss)| loss.is_finite()).collect()
    };
    let reference = reference.filter(|(_, loss)| loss.is_finite());
    let curve = Curve { title, training: pick(|r| r.loss), validation: pick(|r| r.val_loss), reference };
    if curve.training.is_empty() && curve.validation.is_empty() {
        return Err(Error::file(svg_path, "nothing to draw: no record has a loss"));
    }
    register().map_err(|problem| Error::file(svg_path, problem))?;

    let mut svg = String::new();
    let drawn = draw(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), &curve, 1);
    drawn.map_err(|e| Error::file(svg_path, e))?;
    files::write(svg_path, |out| out.write_all(svg.as_bytes()))?;
    files::write_by_path(png_path, |path| {
        let size = (SIZE.0 * PNG_SCALE, SIZE.1 * PNG_SCALE);
        draw(BitMapBackend::new(path, size).into_drawing_area(), &curve, PNG_SCALE).map_err(|e| e.to_string())
    })
}

/// Registers [`FONT`] with plotters.
pub(crate) fn register() -> Result<(), &'static str> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "the font cannot be read")
}

struct Curve<'a> {
    title: &'a str,
    training: Points,
    validation: Points,
    reference: Option<(&'a str, f64)>,
}

impl Curve<'_> {
    /// The ranges of steps and losses that contain all points, with a margin above and below.
    fn ranges(&self) -> [std::ops::Range<f64>; 2] {
        let points = || self.training.iter().chain(&self.validation);
        let losses = || points().map(|p| p.1).chain(self.reference.map(|r| r.1));
        let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(f64::NEG_INFINITY, f64::max));
        let room = ((high - low) * 0.06).max(0.1);
        let last = points().map(|p| p.0).fold(1.0, f64::max);
        [0.0..last * 1.01, (low - room).max(0.0_f64.min(low))..high + room]
    }

    /// The legend's labels, each with colour and kind of mark.
    fn legend(&self) -> Vec<(String, RGBColor, Mark)> {
        let mut lines = Vec::new();
        if !self.training.is_empty() {
            lines.push(("training loss".to_string(), TRAINING, Mark::Line));
        }
        if let Some((step, loss)) = self.validation.iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
            lines.push((format!("validation loss, best {loss:.3} at step {}", thousands(*step)), VALIDATION, Mark::Dots));
        }
        if let Some((label, loss)) = self.reference {
            lines.push((format!("{label} {loss:.3}"), REFERENCE, Mark::Dashes));
        }
        lines
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Line,
    Dots,
    Dashes,
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Draws on `area`, with every length multiplied by `scale`.
fn draw<B: DrawingBackend>(area: DrawingArea<B, Shift>, curve: &Curve, scale: u32) -> Drawn<B> {
    let px = scale as i32;
    let text = |size: u32| (FONT, size * scale).into_font().color(&INK);
    area.fill(&WHITE)?;
    area.draw(&Text::new(curve.title, (66 * px, 14 * px), text(19)))?;
    let [steps, losses] = curve.ranges();
    let decimals = if losses.end - losses.start > 2.0 { 1 } else { 2 };
    let mut chart = ChartBuilder::on(&area)
        .margin_top(44 * px)
        .margin_right(30 * px)
        .margin_bottom(8 * px)
        .margin_left(8 * px)
        .x_label_area_size(44 * px)
        .y_label_area_size(58 * px)
        .build_cartesian_2d(steps, losses.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(scale))
        .axis_style(INK.mix(0.5).stroke_width(scale))
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|step| if step.fract() == 0.0 { thousands(*step) } else { String::new() })
        .y_label_formatter(&|loss| format!("{loss:.decimals$}"))
        .x_desc("step")
        .y_desc("loss (nats per token)")
        .label_style(text(13))
        .axis_desc_style(text(14))
        .set_all_tick_mark_size(4 * px)
        .draw()?;
    if let Some((_, loss)) = curve.reference {
        let ends = [(0.0, loss), (chart.x_range().end, loss)];
        chart.draw_series(DashedLineSeries::new(ends, 7 * px, 5 * px, REFERENCE.stroke_width(2 * scale)))?;
    }
    let smooth = smoothed(&curve.training);
    // One pixel wide at any scale: plotters joins wider strokes by mitres, which noisy data would turn into spikes beyond the chart.
    chart.draw_series(LineSeries::new(thinned(&curve.training), TRAINING.mix(0.4).stroke_width(1)))?;
    chart.draw_series(LineSeries::new(thinned(&smooth), TRAINING.stroke_width(2 * scale)))?;
    let validation = thinned(&curve.validation);
    let radius = if validation.len() > 60 { px } else { 4 * px };
    chart.draw_series(validation.iter().map(|p| Circle::new(*p, radius, VALIDATION.filled())))?;
    chart.draw_series(LineSeries::new(validation, VALIDATION.stroke_width(2 * scale)))?;
    draw_legend(&area, &curve.legend(), scale)?;
    area.present()
}

/// Draws the legend at the top right, where a falling curve leaves room, on a white background.
fn draw_legend<B: DrawingBackend>(area: &DrawingArea<B, Shift>, lines: &[(String, RGBColor, Mark)], scale: u32) -> Drawn<B> {
    let px = scale as i32;
    let font = (FONT, 13 * scale).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    let (mut width, line, right, top) = (0, 22 * px, SIZE.0 as i32 * px - 38 * px, 52 * px);
    for (label, _, _) in lines {
        width = width.max(area.estimate_text_size(label, &font)?.0 as i32);
    }
    let left = right - width - 54 * px;
    let frame = [(left, top), (right, top + line * lines.len() as i32 + 10 * px)];
    area.draw(&Rectangle::new(frame, WHITE.mix(0.9).filled()))?;
    area.draw(&Rectangle::new(frame, GRID.stroke_width(scale)))?;
    for (i, (label, colour, mark)) in lines.iter().enumerate() {
        let y = top + 5 * px + line * i as i32 + line / 2;
        let (from, to) = (left + 10 * px, left + 36 * px);
        let style = colour.stroke_width(2 * scale);
        match mark {
            Mark::Dashes => {
                area.draw(&PathElement::new([(from, y), (from + 11 * px, y)], style))?;
                area.draw(&PathElement::new([(to - 11 * px, y), (to, y)], style))?;
            }
            Mark::Line | Mark::Dots => area.draw(&PathElement::new([(from, y), (to, y)], style))?,
        }
        if let Mark::Dots = mark {
            area.draw(&Circle::new(((from + to) / 2, y), 4 * px, colour.filled()))?;
        }
        area.draw(&Text::new(label.as_str(), (to + 8 * px, y), font.clone()))?;
    }
    Ok(())
}

/// The mean over a window centred on each point. The window shrinks towards the start, so that the average does not lag behind the first
/// steep fall; at the end, where the curve is flat, it is cut off at the last point.
fn smoothed(points: &[(f64, f64)]) -> Points {
    let most = points.len() / 30;
    let mean = |i: usize| {
        let half = most.min(i);
        let window = &points[i - half..(i + half + 1).min(points.len())];
        window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64
    };
    points.iter().enumerate().map(|(i, p)| (p.0, mean(i))).collect()
}

/// Reduces the points to about `MOST_POINTS` at most: the lowest and the highest of each stretch, in order.
fn thinned(points: &[(f64, f64)]) -> Points {
    let stretch = 2 * points.len().div_ceil(MOST_POINTS);
    if stretch <= 2 {
        return points.to_vec();
    }
    let extremes = points.chunks(stretch).flat_map(|chunk| {
        let by_loss = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let mut ends: Points = chunk.iter().min_by(by_loss).into_iter().chain(chunk.iter().max_by(by_loss)).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends
    });
    extremes.collect()
}

/// Formats 12000.0 as `12,000`.
fn thousands(step: f64) -> String {
    let digits = format!("{:.0}", step.abs());
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Shaped like a real run: a fall to 4.6 with noise, validation every 250 steps.
    fn run(steps: u64, every: u64) -> Vec<Record> {
        let fall = |step: u64| 4.55 + 3.05 * (-(step as f64) / 170.0).exp();
        let noise = |step: u64| ((step.wrapping_mul(2_654_435_761) >> 7) % 1000) as f64 / 1000.0 - 0.5;
        let record = |step: u64| Record {
            step,
            loss: (step > 0).then(|| fall(step) + 0.35 * noise(step)),
            val_loss: step.is_multiple_of(250).then(|| fall(step) + 0.1),
            ..Record::default()
        };
        (0..=steps).step_by(every as usize).map(record).collect()
    }

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wgpt-plot-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn draws_runs_of_any_length() {
        let folder = folder();
        let (svg, png) = (folder.join("loss.svg"), folder.join("loss.png"));
        for (records, reference) in
            [(run(1500, 10), Some(("bigram <&> model", 4.91))), (run(40_000, 10), None), (run(0, 1), None), (run(1, 1), None)]
        {
            loss_curve(&records, "shakespeare-word: 2 layers of 64", reference, &svg, &png).unwrap();
            let text = fs::read_to_string(&svg).unwrap();
            assert!(text.contains("validation loss, best") && text.ends_with("</svg>\n"), "{text}");
            assert!(text.len() < 200_000, "the SVG takes {} bytes", text.len());
            assert_eq!(text.contains("bigram &lt;&amp;&gt; model 4.910"), reference.is_some());
            assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG"));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "a temporary file is left");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn refuses_what_it_cannot_draw_or_write() {
        let folder = folder();
        let (svg, png) = (folder.join("loss.svg"), folder.join("loss.png"));
        let nan = Record { loss: Some(f64::NAN), ..Record::default() };
        for records in [vec![], vec![Record::default(), nan]] {
            let error = loss_curve(&records, "", None, &svg, &png).unwrap_err().to_string();
            assert!(error.contains("loss.svg: nothing to draw"), "{error}");
        }
        let below = folder.join("no-such-folder").join("loss.png");
        assert!(matches!(loss_curve(&run(50, 10), "", None, &svg, &below), Err(Error::File { path, .. }) if path == below));
        assert!(matches!(loss_curve(&run(50, 10), "", None, &below, &png), Err(Error::File { path, .. }) if path == below));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_average_keeps_start_and_mean() {
        let points: Points = (0..300).map(|i| (i as f64, 10.0 - i as f64 / 100.0 + if i % 2 == 0 { 0.5 } else { -0.5 })).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth[0], points[0]);
        assert!((smooth[150].1 - 8.5).abs() < 0.06, "{}", smooth[150].1);
        assert!((smooth[299].1 - 7.01).abs() < 0.15, "{}", smooth[299].1);
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Points = (0..50_000).map(|i| (i as f64, 1.0)).collect();
        points[31_111].1 = 9.0;
        points[31_112].1 = -9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&points[31_111]) && thin.contains(&points[31_112]));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn groups_digits() {
        let cases = [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567")];
        cases.iter().for_each(|(step, text)| assert_eq!(thousands(*step), *text));
    }
}
