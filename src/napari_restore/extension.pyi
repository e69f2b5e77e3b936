from napari_restore._format import (
    columns as columns,
    format_seconds as format_seconds,
    listed as listed,
)
from napari_restore._journal import Journal as Journal
from napari_restore._json_shapes import read_json as read_json
from napari_restore._plain_files import parse_toml as parse_toml, read_text as read_text
from napari_restore._points import reached as reached
from napari_restore._replacing import replacing as replacing
from napari_restore.api import Stop as Stop, cluster_worker as cluster_worker, start as start
from napari_restore.api._cluster import connected as connected
from napari_restore.api._options import (
    ModelOptions as ModelOptions,
    documents_options as documents_options,
)
from napari_restore.commands import (
    RANGE as RANGE,
    RESOURCES as RESOURCES,
    CommandResult as CommandResult,
    Interrupt as Interrupt,
    add_cluster as add_cluster,
    add_option as add_option,
    add_options as add_options,
    add_yes as add_yes,
    command_of as command_of,
    given as given,
    interrupt_of as interrupt_of,
    may_run_code as may_run_code,
    reporter as reporter,
    with_flags as with_flags,
    write_error as write_error,
)
from napari_restore.engine import (
    Event as Event,
    ImageStarted as ImageStarted,
    ItemRun as ItemRun,
    Job as Job,
    Note as Note,
    Phase as Phase,
    Plan as Plan,
    Progress as Progress,
    Region as Region,
    Remote as Remote,
    Result as Result,
    Run as Run,
    StoreBusy as StoreBusy,
    Threads as Threads,
    block_too_large as block_too_large,
    choose_device as choose_device,
    clear_frames as clear_frames,
    is_out_of_memory as is_out_of_memory,
    make_plan as make_plan,
)
from napari_restore.errors import (
    BadOutput as BadOutput,
    BadParameter as BadParameter,
    Cancelled as Cancelled,
    DiskFull as DiskFull,
    InputError as InputError,
    OutOfMemory as OutOfMemory,
    RestoreError as RestoreError,
    UnknownBands as UnknownBands,
    UnreadableImage as UnreadableImage,
    did_you_mean as did_you_mean,
    disk_full_as as disk_full_as,
    escape_controls as escape_controls,
    is_disk_full as is_disk_full,
    option as option,
)
from napari_restore.images import (
    ArrayReader as ArrayReader,
    Box as Box,
    ExportOptions as ExportOptions,
    Image as Image,
    Pixels as Pixels,
    Radiometry as Radiometry,
    bracket_of as bracket_of,
    is_image_in_folder as is_image_in_folder,
    light_of_srgb as light_of_srgb,
    lock_file as lock_file,
    needs_percentile as needs_percentile,
    open_image as open_image,
    owner_in as owner_in,
    resolve_radiometry as resolve_radiometry,
    srgb_of_light as srgb_of_light,
    write_image as write_image,
)
from napari_restore.metrics import (
    SSIM_K1 as SSIM_K1,
    SSIM_K2 as SSIM_K2,
    SSIM_SIGMA as SSIM_SIGMA,
    SSIM_WINDOW as SSIM_WINDOW,
    Metric as Metric,
    metric_of as metric_of,
    psnr as psnr,
    strips as strips,
)
from napari_restore.models import (
    MOST_SCALE as MOST_SCALE,
    MOST_SHRINK as MOST_SHRINK,
    BottleneckModel as BottleneckModel,
    Named as Named,
    RestorationModel as RestorationModel,
    code_digest as code_digest,
    cut as cut,
    entry_of as entry_of,
    fill as fill,
    identity_of as identity_of,
    is_scale as is_scale,
    label_of as label_of,
    load as load,
    load_named as load_named,
    pad_to_multiple as pad_to_multiple,
    read_state as read_state,
    resolve as resolve,
    sha256_of_file as sha256_of_file,
)
from napari_restore.models.atmosphere.inversion import THICKEST as THICKEST
from napari_restore.models.inf_dehaze.head import DEEPEST as DEEPEST
from napari_restore.questions import (
    FLOATS as FLOATS,
    WHOLE as WHOLE,
    Computing as Computing,
    Machine as Machine,
    Pathlike as Pathlike,
    Reading as Reading,
    RestoreKeywords as RestoreKeywords,
    asked as asked,
    options_of as options_of,
    parsing as parsing,
    part_of as part_of,
    without as without,
)
from napari_restore.records import strict_json as strict_json, write_json as write_json
