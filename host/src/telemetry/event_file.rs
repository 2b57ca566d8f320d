//! TensorBoard's event files: TFRecord frames around protobuf messages.
//!
//! Scalars are `simple_value`, histograms `histo`, texts string tensors of the plugin `text`: the forms that PyTorch writes and
//! every reader takes. Field numbers are those of tensorboard/compat/proto/{event,summary,histogram,tensor}.proto.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use prost::Message;

use super::line::Line;
use crate::error::{Error, Result};

/// The name of a stage's event file; TensorBoard looks for `tfevents` in it.
pub const EVENT_FILE: &str = "events.out.tfevents.finegrain";
/// The version of the format, which the first event of a file names.
const VERSION: &str = "brain.Event:2";
/// `DT_STRING` of tensorflow's types.proto.
const DT_STRING: i32 = 7;
/// `DATA_CLASS_TENSOR` of summary.proto.
const DATA_CLASS_TENSOR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

/// One of `simple_value`, `histo` and `tensor` is there.
#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "5")]
    histo: Option<HistogramProto>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramProto {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<Scalar>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

/// A shape without dimensions: TensorBoard shows texts of more as tables.
#[derive(Clone, PartialEq, Message)]
struct Scalar {}

#[derive(Clone, PartialEq, Message)]
struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
    #[prost(int32, tag = "4")]
    data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

/// The CRC-32C of a part of a frame as TFRecord stores it: rotated by 15 bits and shifted, so that the checksum of data that
/// hold checksums is not a weak one.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Appends a frame: length, its checksum, the bytes, their checksum; little-endian.
fn frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(bytes);
    out.extend(masked_crc(bytes).to_le_bytes());
}

/// The frame with which a file begins.
fn head(wall_time: f64) -> Vec<u8> {
    let mut out = Vec::new();
    let event = Event {
        wall_time,
        file_version: Some(VERSION.to_owned()),
        ..Event::default()
    };
    frame(&mut out, &event.encode_to_vec());
    out
}

/// The frame of a line; nothing for a line without a finite figure.
fn encode(line: &Line) -> Vec<u8> {
    let (step, values) = match line {
        Line::Metrics(line) => {
            let figures = line.values.iter();
            let values: Vec<SummaryValue> = figures
                .filter_map(|(name, value)| {
                    Some(SummaryValue {
                        tag: name.clone(),
                        simple_value: Some(value.as_f64()? as f32),
                        ..SummaryValue::default()
                    })
                })
                .collect();
            (line.step, values)
        }
        Line::Histogram(line) => {
            let histogram = &line.histogram;
            let value = SummaryValue {
                tag: line.name.clone(),
                histo: Some(HistogramProto {
                    min: histogram.min,
                    max: histogram.max,
                    num: histogram.num,
                    sum: histogram.sum,
                    sum_squares: histogram.sum_squares,
                    bucket_limit: histogram.limits.clone(),
                    bucket: histogram.counts.clone(),
                }),
                ..SummaryValue::default()
            };
            (line.step, vec![value])
        }
        Line::Text(line) => {
            let value = SummaryValue {
                tag: line.name.clone(),
                tensor: Some(TensorProto {
                    dtype: DT_STRING,
                    tensor_shape: Some(Scalar {}),
                    string_val: vec![line.text.clone().into_bytes()],
                }),
                metadata: Some(SummaryMetadata {
                    plugin_data: Some(PluginData {
                        plugin_name: "text".to_owned(),
                    }),
                    data_class: DATA_CLASS_TENSOR,
                }),
                ..SummaryValue::default()
            };
            (line.step, vec![value])
        }
    };
    let mut out = Vec::new();
    if !values.is_empty() {
        let event = Event {
            wall_time: line.unix_seconds(),
            step: step as i64,
            summary: Some(Summary { value: values }),
            ..Event::default()
        };
        frame(&mut out, &event.encode_to_vec());
    }
    out
}

/// The event file of a stage that is at work; each line is handed to the system at once, so that TensorBoard can follow. It
/// is made with the first line: a stage without any has none.
pub struct EventFile {
    path: PathBuf,
    file: Option<File>,
}

impl EventFile {
    /// The file of these lines at `path`. One that is there is overwritten in place: the lines before an interruption are the
    /// same bytes, and whoever follows the file goes on.
    pub fn open(path: &Path, lines: &[Line]) -> Result<Self> {
        let mut events = Self {
            path: path.to_path_buf(),
            file: None,
        };
        let Some(first) = lines.first() else {
            // What is left of an attempt that wrote more than it kept.
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::io("remove", path, &error))
                }
                _ => Ok(events),
            };
        };
        let mut bytes = head(first.unix_seconds());
        for line in lines {
            bytes.extend(encode(line));
        }
        events.write(&bytes)?;
        if let Some(file) = &events.file {
            file.set_len(bytes.len() as u64)
                .map_err(|error| Error::io("write", path, &error))?;
        }
        Ok(events)
    }

    /// Adds a line.
    pub fn push(&mut self, line: &Line) -> Result<()> {
        let mut bytes = if self.file.is_none() {
            head(line.unix_seconds())
        } else {
            Vec::new()
        };
        bytes.extend(encode(line));
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let fail = |error: io::Error| Error::io("write", &self.path, &error);
        if let (None, Some(folder)) = (&self.file, self.path.parent()) {
            fs::create_dir_all(folder).map_err(|error| Error::io("make", folder, &error))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(
                File::options()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&self.path)
                    .map_err(fail)?,
            ),
        };
        file.write_all(bytes).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::histogram::Histogram;
    use crate::telemetry::line::{HistogramLine, MetricLine, TextLine};

    fn lines() -> Vec<Line> {
        vec![
            Line::Metrics(MetricLine::new(1, 10.5, &[("a/x", 0.0), ("a/y", f64::NAN)])),
            Line::Histogram(HistogramLine {
                step: 1,
                unix_seconds: 11.0,
                name: "a/h".into(),
                histogram: Histogram::of(&[1.0, 2.0, 4.0]).unwrap(),
            }),
            Line::Text(TextLine {
                step: 1,
                unix_seconds: 12.0,
                name: "samples/x".into(),
                text: "words".into(),
            }),
            Line::Metrics(MetricLine::new(2, 13.0, &[("a/y", f64::NAN)])),
            Line::Metrics(MetricLine::new(2, 14.0, &[("a/x", -1.5)])),
        ]
    }

    /// The messages of a file, whose checksums must be right.
    fn read(bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let checksum = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            assert_eq!(checksum(8), masked_crc(&rest[..8]));
            assert_eq!(checksum(12 + length), masked_crc(&rest[12..12 + length]));
            events.push(Event::decode(&rest[12..12 + length]).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    /// CRC-32C of "123456789" is e3069283 (the check value of its polynomial). The
    /// frame is that of `tensorboard.summary.writer.record_writer.RecordWriter(f).write(b"123456789")`.
    #[test]
    fn checksums_and_frames_are_those_of_tfrecord() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let mut out = Vec::new();
        frame(&mut out, b"123456789");
        assert_eq!(out, TFRECORD);
    }

    const TFRECORD: [u8; 25] = [
        9, 0, 0, 0, 0, 0, 0, 0, 55, 249, 113, 57, 49, 50, 51, 52, 53, 54, 55, 56, 57, 229, 176,
        138, 199,
    ];

    #[test]
    fn a_file_begins_with_its_version_and_holds_what_is_finite() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/events");
        let mut file = EventFile::open(&path, &[]).unwrap();
        assert!(!path.exists(), "no line, no file");
        for line in lines() {
            file.push(&line).unwrap();
        }
        let events = read(&fs::read(&path).unwrap());
        assert_eq!(events.len(), 5);
        assert_eq!(events[0].file_version.as_deref(), Some(VERSION));
        assert_eq!(events[0].wall_time, 10.5);
        let values = |at: usize| &events[at].summary.as_ref().unwrap().value;
        assert_eq!(values(1).len(), 1);
        assert_eq!(values(1)[0].simple_value, Some(0.0));
        assert_eq!(values(2)[0].histo.as_ref().unwrap().num, 3.0);
        assert_eq!(
            values(3)[0].tensor.as_ref().unwrap().string_val,
            [b"words".to_vec()]
        );
        assert_eq!((events[4].step, events[4].wall_time), (2, 14.0));
    }

    #[test]
    fn the_same_lines_give_the_same_bytes_whether_written_along_at_once_or_after_an_interruption() {
        let dir = tempfile::tempdir().unwrap();
        let lines = lines();
        let path = |name: &str| dir.path().join(name);
        let mut along = EventFile::open(&path("along"), &[]).unwrap();
        for line in &lines {
            along.push(line).unwrap();
        }
        EventFile::open(&path("whole"), &lines).unwrap();
        // Interrupted after four lines, and gone on with from two.
        EventFile::open(&path("resumed"), &lines[..4]).unwrap();
        let mut resumed = EventFile::open(&path("resumed"), &lines[..2]).unwrap();
        for line in &lines[2..] {
            resumed.push(line).unwrap();
        }
        let bytes = fs::read(path("along")).unwrap();
        assert_eq!(bytes, fs::read(path("whole")).unwrap());
        assert_eq!(bytes, fs::read(path("resumed")).unwrap());
    }
}
