from merged_diffusion._core import __version__ as __version__
from merged_diffusion.bound import Bound as Bound, loss_profile as loss_profile, variational_bound as variational_bound
from merged_diffusion.data import load_data as load_data
from merged_diffusion.data.images import Data as Data, make_data as make_data
from merged_diffusion.errors import DataError as DataError, DataIntegrityError as DataIntegrityError, DataNotFoundError as DataNotFoundError, ExpertError as ExpertError, ExpertRangeError as ExpertRangeError, ExpertWarning as ExpertWarning, CheckpointError as CheckpointError, IncompleteError as IncompleteError, MergedDiffusionError as MergedDiffusionError, ResourceError as ResourceError, RunCorruptError as RunCorruptError, RunError as RunError, RunLockedError as RunLockedError, RunMismatchError as RunMismatchError, SolveError as SolveError, StorageError as StorageError, UnsafeFileError as UnsafeFileError, UnsupportedCheckpointError as UnsupportedCheckpointError, UsageError as UsageError
from merged_diffusion.experts.accept import Accept as Accept
from merged_diffusion.experts.base import Expert as Expert
from merged_diffusion.experts.callables import CallableExpert as CallableExpert
from merged_diffusion.experts.cards import load_expert as load_expert
from merged_diffusion.experts.converting import convert_expert as convert_expert
from merged_diffusion.experts.diffusers import DiffusersExpert as DiffusersExpert
from merged_diffusion.experts.gaussian import GaussianExpert as GaussianExpert, GaussianMixtureExpert as GaussianMixtureExpert
from merged_diffusion.experts.guided import Guided as Guided
from merged_diffusion.experts.inspection import inspect_expert as inspect_expert
from merged_diffusion.simplex_gate import SimplexGate as SimplexGate
from merged_diffusion.soft_gate import Gate as Gate
from merged_diffusion.gate_card import gate_toml as gate_toml, load_gate as load_gate
from merged_diffusion.gating.gate_choice import fit_gate as fit_gate
from merged_diffusion.gating.simplex_fit import fit_gate_of as fit_gate_of
from merged_diffusion.jobs.evaluate import evaluate as evaluate
from merged_diffusion.jobs.kept_scores import load_scores as load_scores
from merged_diffusion.jobs.settings import Settings as Settings
from merged_diffusion.likelihood import Likelihood as Likelihood, log_density as log_density, log_likelihood as log_likelihood, paired_difference as paired_difference
from merged_diffusion.merge import MergedModel as MergedModel, Threshold as Threshold
from merged_diffusion.flow_statistics import ModelStatistics as ModelStatistics, load_model_statistics as load_model_statistics, model_statistics_npz as model_statistics_npz
from merged_diffusion.ode.machine import Machine as Machine
from merged_diffusion.ode.methods import Adams as Adams, Dopri5 as Dopri5, Probes as Probes
from merged_diffusion.pairs import load_pair as load_pair
from merged_diffusion.quality.assess import assess as assess
from merged_diffusion.quality.frechet import frechet_distance as frechet_distance
from merged_diffusion.runs import Run as Run, open_run as open_run
from merged_diffusion.samplers import Ancestral as Ancestral, Deis as Deis, Dpmpp2m as Dpmpp2m, Dpmpp3m as Dpmpp3m, DpmV3 as DpmV3, Heun as Heun, Ipndm as Ipndm, Ode as Ode, UniPC as UniPC
from merged_diffusion.sampling import Samples as Samples, draw as draw, sample as sample
from merged_diffusion.sampling.fit_statistics import fit_model_statistics as fit_model_statistics
from merged_diffusion.scores.set_mean import estimate_mean as estimate_mean
from merged_diffusion.sweeps.carry_out import sweep as sweep
from merged_diffusion.thresholds import find_threshold as find_threshold
from merged_diffusion.thresholds.confirm_switches import confirm_switches as confirm_switches
from merged_diffusion.thresholds.switches import find_switches as find_switches
from merged_diffusion.training import TrainingMachine as TrainingMachine, train as train, training_cost as training_cost
