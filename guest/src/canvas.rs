//! A window's surface: configured with the window's size, recreated when it is lost.

use std::sync::Arc;

use wgpu::CurrentSurfaceTexture as Current;
use winit::window::Window;

use crate::Result;

pub struct Canvas {
    // The order matters: the surface must be dropped before the instance and the window.
    surface: wgpu::Surface<'static>,
    instance: wgpu::Instance,
    window: Arc<Window>,
    device: wgpu::Device,
    config: wgpu::SurfaceConfiguration,
}

impl Canvas {
    pub fn new(
        instance: wgpu::Instance,
        surface: wgpu::Surface<'static>,
        adapter: &wgpu::Adapter,
        device: &wgpu::Device,
        window: Arc<Window>,
    ) -> Result<Canvas> {
        let formats = surface.get_capabilities(adapter).formats;
        let mut config = surface.get_default_config(adapter, 1, 1).ok_or("the adapter cannot present to this window")?;
        config.format = formats.iter().copied().find(|format| format.is_srgb()).unwrap_or(config.format);
        config.present_mode = wgpu::PresentMode::AutoVsync;
        let mut canvas = Canvas { surface, instance, window, device: device.clone(), config };
        canvas.resize();
        Ok(canvas)
    }

    /// Adopts the window's size. A minimized window has size 0; its surface is left unchanged.
    pub fn resize(&mut self) {
        let (size, most) = (self.window.inner_size(), self.device.limits().max_texture_dimension_2d);
        if size.width > 0 && size.height > 0 {
            (self.config.width, self.config.height) = (size.width.min(most), size.height.min(most));
            self.surface.configure(&self.device, &self.config);
        }
    }

    pub fn size(&self) -> [u32; 2] {
        [self.config.width, self.config.height]
    }

    pub fn format(&self) -> wgpu::TextureFormat {
        self.config.format
    }

    /// Whether the window has no visible area.
    pub fn is_hidden(&self) -> bool {
        let size = self.window.inner_size();
        size.width == 0 || size.height == 0
    }

    /// The texture of the next frame; `None` if there is none for this frame.
    pub fn acquire(&mut self) -> Result<Option<wgpu::SurfaceTexture>> {
        if self.is_hidden() {
            return Ok(None);
        }
        match self.surface.get_current_texture() {
            Current::Success(texture) | Current::Suboptimal(texture) => Ok(Some(texture)),
            Current::Outdated => {
                self.resize();
                Ok(None)
            }
            Current::Lost => {
                self.surface = self.instance.create_surface(self.window.clone())?;
                self.resize();
                Ok(None)
            }
            Current::Timeout | Current::Occluded => Ok(None),
            // The device's error handler has received the message.
            Current::Validation => Ok(None),
        }
    }
}
