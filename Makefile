# Everything runs in .venv; `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Two test workers on two cores: one thread each. Each takes half of the tests, so that few fixtures are made twice.
TEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 WANDB_MODE=disabled $(BIN)/python -m pytest -n 2 --dist worksteal

# The three latent distributions of sweeps/vae_color.yaml, with the default size and weight.
DEFAULTS := --override model.latent_dim=3 --override model.beta=1
# Adversarial models train in bf16-mixed, and in the sweeps of many runs for two epochs each.
BF16 := --trainer.precision bf16-mixed
BF16_SWEEP := --override trainer.precision=bf16-mixed
SHORT := $(BF16_SWEEP) --override trainer.max_epochs=2
EMOJI := $(BIN)/python train.py fit --data.folder data/emoji $(BF16) --run.name default
GALLERY := poolingautoencoder_mnist linearautoencoder_mnist sparseautoencoder_mnist contractiveautoencoder_mnist \
  denoisingautoencoder_colored_mnist anomalydetector_mnist autoencoder_rotated_mnist angleprobe_mnist vae_mnist \
  vae_digits

.DEFAULT_GOAL := help
.PHONY: help install demo tutorial test test-all test-gpu lint format docs results gallery clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv and install genlab into it; does nothing when that is done

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make install PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,docs]'
	@touch $(STAMP)

demo: install  ## train autoencoders and few-shot classifiers on real digits, no download; ends with two reports
	@$(BIN)/python sweep.py run sweeps/quickstart.yaml
	@$(BIN)/python sweep.py run sweeps/quickstart_transfer.yaml

tutorial: install  ## run every command of docs/your-own-images.md, with a short training; no download
	@WANDB_MODE=disabled $(BIN)/python -m pytest -q tests/test_docs.py -k your_own_images

test: install  ## the test suite
	@$(TEST) -m "not slow and not gpu"

test-all: install  ## the test suite with its long checks
	@$(TEST) -m "not gpu"

test-gpu: install  ## the checks on a GPU, a few minutes; they are skipped, and named, without one
	@WANDB_MODE=disabled $(BIN)/python -m pytest -q -rs tests/gpu

lint: install  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install  ## let ruff rewrite what it can
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

docs: install  ## the documentation site, into site/; a broken link or anchor fails, nothing is downloaded
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

results: install  ## run the studies of docs/results.md on MNIST; several hours on two cores
	@$(BIN)/python sweep.py run sweeps/ae_capacity.yaml --override seed_everything=0,1,2
	@$(BIN)/python sweep.py run sweeps/transfer.yaml --override seed_everything=0,1,2
	@$(BIN)/python train.py fit --config configs/classifier_mnist.yaml
	@$(BIN)/python sweep.py run sweeps/vae_color.yaml $(DEFAULTS) --override seed_everything=0,1,2
	@$(BIN)/python train.py fit --config configs/vae_binarized_mnist.yaml
	@$(BIN)/python sweep.py run sweeps/vae_latent_dim.yaml
	@$(BIN)/python sweep.py run sweeps/encoders_vae.yaml
	@$(BIN)/python sweep.py run sweeps/encoders_wae.yaml
	@$(BIN)/python sweep.py run sweeps/encoder_transfer.yaml
	@$(BIN)/python sweep.py run sweeps/denoising.yaml
	@for seed in 0 1 2; do $(BIN)/python train.py fit --config configs/gan_mnist.yaml $(BF16) --seed_everything $$seed \
	  --run.name seed=$$seed || exit 1; done
	@$(BIN)/python train.py fit --config configs/vae_mnist.yaml
	@$(BIN)/python train.py fit --config configs/linearautoencoder_mnist.yaml
	@$(BIN)/python train.py fit --config configs/poolingautoencoder_mnist.yaml
	@$(BIN)/python train.py predict --data.predict_split train \
	  --ckpt_path runs/poolingautoencoder_mnist/default/checkpoints/best.ckpt
	@$(BIN)/python sweep.py run sweeps/gan_prior.yaml $(SHORT)
	@$(BIN)/python sweep.py run sweeps/gan_objective.yaml $(SHORT)
	@$(BIN)/python sweep.py run sweeps/gan_saturation.yaml
	@$(BIN)/python train.py fit --config configs/conditionalgan_mnist.yaml $(BF16) --run.name default
	@$(BIN)/python train.py fit --config configs/acgan_mnist.yaml $(BF16) --run.name default
	@for pack in 1 2; do $(BIN)/python train.py fit --config configs/gan_stacked_mnist.yaml $(BF16) --model.pack $$pack \
	  --run.experiment pacgan --run.name pack=$$pack,seed=0 || exit 1; done
	@$(BIN)/python -m studies.adversarial
	@$(BIN)/python sweep.py run sweeps/cyclegan.yaml $(BF16_SWEEP) --override model.objective=NonSaturating \
	  --override model.step_order=joint
	@$(BIN)/python sweep.py run sweeps/pix2pix.yaml $(BF16_SWEEP) --override model.l1_weight=100.0
	@$(BIN)/python sweep.py run sweeps/srgan.yaml $(BF16_SWEEP) --override model.perceptual_weight=0.1 \
	  --override model.adversarial_weight=1.0e-3
	@$(BIN)/python sweep.py run sweeps/restoration.yaml $(BF16_SWEEP) --override model.residual_weight=10.0
	@$(BIN)/python train.py fit --config configs/denoisingautoencoder_mnist.yaml --model.corruption.strength 0.75 \
	  --run.name strength=0.75
	@$(BIN)/python -m studies.translation
	@$(BIN)/python train.py fit --config configs/wae_mnist.yaml
	@for config in glo_mnist glow_mnist scoremodel_mnist ddpm_mnist; do \
	  $(BIN)/python train.py fit --config configs/$$config.yaml $(BF16) --run.name default || exit 1; done
	@$(BIN)/python -m studies.samplers --precision bf16-mixed --count 500 --write
	@$(BIN)/python -m studies.families --write
	@$(BIN)/python -m studies.pictures
	@$(BIN)/python -m studies.steering

gallery: results  ## run the studies, then make the pictures of docs/gallery.md; two hours more, and npm
	@for config in $(GALLERY); do $(BIN)/python train.py fit --config configs/$$config.yaml || exit 1; done
	@for config in texture inversion style; do \
	  $(BIN)/python train.py fit --config configs/$$config.yaml $(BF16) --run.name default || exit 1; done
	@$(BIN)/python sample.py runs/ae_capacity/depth=3,latent_dim=10,seed=0/checkpoints/best.ckpt --sort --count 100 \
	  --classifier runs/classifier_mnist/default/checkpoints/best.ckpt --output runs/labelled_samples/default/samples.png
	@test -d data/emoji || { npm pack emoji-datasource-google@16.0.0 && \
	  $(BIN)/python -m studies.emoji emoji-datasource-google-16.0.0.tgz data/emoji; }
	@$(EMOJI) --config configs/vae_image_folder.yaml --run.experiment vae_emoji
	@$(EMOJI) --config configs/gan_image_folder.yaml --run.experiment gan_emoji --quality.classifier train \
	  --trainer.max_epochs 30
	@$(EMOJI) --config configs/ddpm_image_folder.yaml --run.experiment ddpm_emoji --trainer.max_epochs 40
	@$(BIN)/python sample.py runs/ddpm_emoji/default/checkpoints/best.ckpt --count 36 --sampler Ancestral \
	  --sampler-steps 200 --output runs/ddpm_emoji/ancestral/samples.png
	@$(BIN)/python -m studies.gallery

clean:  ## remove .venv and caches; runs and data stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache genlab.egg-info site
