//! An image that is drawn offscreen and saved as a PNG file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use wgpt::Gpu;

use crate::Result;

pub struct Screenshot {
    texture: wgpu::Texture,
    buffer: wgpu::Buffer,
    /// Bytes per row in the buffer.
    pitch: u32,
}

impl Screenshot {
    pub fn new(gpu: &Gpu, format: wgpu::TextureFormat, [width, height]: [u32; 2]) -> Screenshot {
        let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: Some("screenshot"),
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let pitch = (width * 4).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("screenshot"),
            size: u64::from(pitch) * u64::from(height),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Screenshot { texture, buffer, pitch }
    }

    pub fn view(&self) -> wgpu::TextureView {
        self.texture.create_view(&wgpu::TextureViewDescriptor::default())
    }

    /// Submits the encoder that drew the image, waits, and writes the file.
    pub fn save(&self, gpu: &Gpu, mut encoder: wgpu::CommandEncoder, path: &Path) -> Result<()> {
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(self.pitch), rows_per_image: None };
        let target = wgpu::TexelCopyBufferInfo { buffer: &self.buffer, layout };
        encoder.copy_texture_to_buffer(self.texture.as_image_copy(), target, self.texture.size());
        gpu.queue().submit([encoder.finish()]);
        self.buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
        let (width, height) = (self.texture.width(), self.texture.height());
        let swapped = matches!(self.texture.format().remove_srgb_suffix(), wgpu::TextureFormat::Bgra8Unorm);
        let bytes = self.buffer.get_mapped_range(..)?;
        let rows = bytes.chunks(self.pitch as usize).flat_map(|row| row[..width as usize * 4].chunks(4));
        let pixels: Vec<u8> = rows.flat_map(|p| if swapped { [p[2], p[1], p[0]] } else { [p[0], p[1], p[2]] }).collect();
        let mut png = png::Encoder::new(BufWriter::new(File::create(path)?), width, height);
        png.set_color(png::ColorType::Rgb);
        png.write_header()?.write_image_data(&pixels)?;
        Ok(())
    }
}
