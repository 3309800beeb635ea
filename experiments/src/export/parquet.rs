//! Parquet: each of the four tables as one file, columns as in the CSV.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::Files;
use crate::summary::read;
use crate::train;

/// The cells of a column; `None` for a blank one.
enum Cells {
    Text(Vec<Option<ByteArray>>),
    Whole(Vec<Option<i64>>),
    Truth(Vec<Option<bool>>),
    Number(Vec<Option<f64>>),
}

impl Cells {
    /// Of `rows` blank cells. The name alone says what a column holds, so that files of different runs agree.
    fn new(name: &str, rows: usize) -> Self {
        match name {
            "agent" | "env" => Self::Text(vec![None; rows]),
            "seed" | "step" | "episode" | "episodes" | "agent_index" | "length" | "iteration" => {
                Self::Whole(vec![None; rows])
            }
            "terminated" | "truncated" => Self::Truth(vec![None; rows]),
            _ => Self::Number(vec![None; rows]),
        }
    }

    fn push(&mut self, text: &str) -> Result<()> {
        fn value<T: std::str::FromStr>(text: &str, what: &str) -> Result<Option<T>> {
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|_| anyhow::anyhow!("'{text}' is not {what}"))
        }
        match self {
            Self::Text(cells) => cells.push((!text.is_empty()).then(|| ByteArray::from(text))),
            Self::Whole(cells) => cells.push(value(text, "a whole number")?),
            Self::Truth(cells) => cells.push(value(text, "true or false")?),
            Self::Number(cells) => cells.push(value(text, "a number")?),
        }
        Ok(())
    }

    fn push_blank(&mut self) {
        match self {
            Self::Text(cells) => cells.push(None),
            Self::Whole(cells) => cells.push(None),
            Self::Truth(cells) => cells.push(None),
            Self::Number(cells) => cells.push(None),
        }
    }

    fn field(&self, name: &str) -> Result<Type> {
        let (physical, logical) = match self {
            Self::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Whole(_) => (Physical::INT64, None),
            Self::Truth(_) => (Physical::BOOLEAN, None),
            Self::Number(_) => (Physical::DOUBLE, None),
        };
        let field = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        Ok(field.with_repetition(Repetition::OPTIONAL).build()?)
    }

    fn write(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<()> {
        fn column<T: DataType>(
            group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
            cells: Vec<Option<T::T>>,
        ) -> Result<()> {
            let mut writer = group.next_column()?.context("fewer columns than fields")?;
            let present: Vec<i16> = cells.iter().map(|c| i16::from(c.is_some())).collect();
            let values: Vec<T::T> = cells.into_iter().flatten().collect();
            writer.typed::<T>().write_batch(&values, Some(&present), None)?;
            Ok(writer.close()?)
        }
        match self {
            Self::Text(cells) => column::<ByteArrayType>(group, cells),
            Self::Whole(cells) => column::<Int64Type>(group, cells),
            Self::Truth(cells) => column::<BoolType>(group, cells),
            Self::Number(cells) => column::<DoubleType>(group, cells),
        }
    }
}

/// Columns in order of their first appearance.
#[derive(Default)]
struct Table {
    names: Vec<String>,
    columns: Vec<Cells>,
    rows: usize,
}

impl Table {
    /// Adds the rows of a CSV file. A column that it lacks is blank there.
    fn read(&mut self, path: &PathBuf) -> Result<()> {
        let shown = path.display();
        let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot open {shown}"))?;
        let header = reader.headers().with_context(|| format!("cannot read {shown}"))?.clone();
        if header.is_empty() {
            return Ok(());
        }
        if !["agent", "env", "seed", "step"].iter().all(|name| header.iter().any(|h| h == *name)) {
            bail!("{shown}: line 1: no columns agent, env, seed, step; only files of ours can be exported");
        }
        let mut source = vec![None; self.names.len()];
        for (at, name) in header.iter().enumerate() {
            match self.names.iter().position(|n| n == name) {
                Some(column) => source[column] = Some(at),
                None => {
                    self.names.push(name.to_owned());
                    self.columns.push(Cells::new(name, self.rows));
                    source.push(Some(at));
                }
            }
        }
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {shown}"))?;
            for ((column, name), at) in self.columns.iter_mut().zip(&self.names).zip(&source) {
                match at.and_then(|at| record.get(at)) {
                    Some(text) => column.push(text).with_context(|| {
                        let line = record.position().map_or(0, csv::Position::line);
                        format!("{shown}: line {line}, column '{name}': correct or remove that line")
                    })?,
                    None => column.push_blank(),
                }
            }
            self.rows += 1;
        }
        Ok(())
    }

    fn bytes(self) -> Result<Vec<u8>> {
        let mut fields = Vec::new();
        for (name, column) in self.names.iter().zip(&self.columns) {
            fields.push(Arc::new(column.field(name)?));
        }
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        for column in self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        Ok(writer.into_inner()?)
    }
}

/// `eval.parquet`, `episodes.parquet`, `train.parquet` and `timing.parquet`, as far as there are such files.
pub fn parquet(paths: &[PathBuf]) -> Result<Files> {
    let mut files = Vec::new();
    for name in train::NAMES {
        let mut table = Table::default();
        for path in paths {
            for file in read::files(path, name).unwrap_or_default() {
                table.read(&file)?;
            }
        }
        if !table.names.is_empty() {
            files.push((PathBuf::from(name).with_extension("parquet"), table.bytes()?));
        }
    }
    if files.is_empty() {
        bail!("no CSV of ours under the paths; pass run directories or a sweep's folder");
    }
    Ok(files)
}
