from ._advanced_form import AdvancedForm, ClusterForm
from ._airlight_view import AirlightPicker, RubberBand
from ._band_roles_form import BandRolesForm, add_in_colour, is_needed
from ._model_chooser import MARK, ModelChoice, ModelChooser, offered_models
from ._model_files_dialog import ModelFiles, ProposalDialog, TrustDialog
from ._parameter_form import ParameterForm
from ._plane_chooser import PlaneChooser

__all__ = [
    "MARK",
    "AdvancedForm",
    "AirlightPicker",
    "BandRolesForm",
    "ClusterForm",
    "ModelChoice",
    "ModelChooser",
    "ModelFiles",
    "ParameterForm",
    "PlaneChooser",
    "ProposalDialog",
    "RubberBand",
    "TrustDialog",
    "add_in_colour",
    "is_needed",
    "offered_models",
]
