r"""A network of diffusers as an expert: timestep, prediction and range come from its scheduler.

    merged-diffusion nll --data photos --limit 2 --rtol 1e-3 --atol 1e-3 --dequantise decoder \
        --expert examples/diffusers_expert.py:expert

DDPM's table begins at a noise of a hundredth of the data, more than a grey level. Alone it is scored with a
decoder, which takes that noise away; merged with a likelihood expert it needs none.

A folder that ``save_pretrained`` wrote needs no code: ``--expert FOLDER``. The network here is small and was
not trained; with one that was, the first two lines of `expert` become

    unet = UNet2DModel.from_pretrained(folder, subfolder="unet")
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
"""

import torch
from diffusers import DDPMScheduler, UNet2DModel

import merged_diffusion as md
from merged_diffusion.ode.methods import Dopri5


def expert() -> md.DiffusersExpert:
    """Of 8x8 photos in 256 levels."""
    unet = untrained()
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    return md.DiffusersExpert(unet, scheduler, levels=256)


def untrained() -> UNet2DModel:
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=8,
            block_out_channels=(8,),
            layers_per_block=1,
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            norm_num_groups=4,
        )


if __name__ == "__main__":
    made = expert()
    print(f"gamma from {made.gamma_range[0]:.2f} to {made.gamma_range[1]:.2f}")
    photos = md.load_data("photos").select(limit=2)
    print(md.log_likelihood(made, photos, dequantise="decoder", solver=Dopri5(rtol=1e-3, atol=1e-3)))
