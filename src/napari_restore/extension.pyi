from napari_restore._format import (
    columns as columns,
)
from napari_restore._format import (
    format_seconds as format_seconds,
)
from napari_restore._format import (
    listed as listed,
)
from napari_restore._journal import (
    Journal as Journal,
)
from napari_restore._plain_files import (
    read_text as read_text,
)
from napari_restore._points import (
    reached as reached,
)
from napari_restore._replacing import (
    replacing as replacing,
)
from napari_restore.api import (
    ModelOptions as ModelOptions,
)
from napari_restore.api import (
    Stop as Stop,
)
from napari_restore.api import (
    cluster_worker as cluster_worker,
)
from napari_restore.api import (
    connected as connected,
)
from napari_restore.api import (
    documents_options as documents_options,
)
from napari_restore.api import (
    start as start,
)
from napari_restore.commands import (
    RANGE as RANGE,
)
from napari_restore.commands import (
    RESOURCES as RESOURCES,
)
from napari_restore.commands import (
    CommandResult as CommandResult,
)
from napari_restore.commands import (
    Interrupt as Interrupt,
)
from napari_restore.commands import (
    add_cluster as add_cluster,
)
from napari_restore.commands import (
    add_option as add_option,
)
from napari_restore.commands import (
    add_options as add_options,
)
from napari_restore.commands import (
    add_yes as add_yes,
)
from napari_restore.commands import (
    command_of as command_of,
)
from napari_restore.commands import (
    given as given,
)
from napari_restore.commands import (
    interrupt_of as interrupt_of,
)
from napari_restore.commands import (
    may_run_code as may_run_code,
)
from napari_restore.commands import (
    reporter as reporter,
)
from napari_restore.commands import (
    with_flags as with_flags,
)
from napari_restore.commands import (
    write_error as write_error,
)
from napari_restore.engine import (
    Event as Event,
)
from napari_restore.engine import (
    ImageStarted as ImageStarted,
)
from napari_restore.engine import (
    ItemRun as ItemRun,
)
from napari_restore.engine import (
    Job as Job,
)
from napari_restore.engine import (
    Note as Note,
)
from napari_restore.engine import (
    Phase as Phase,
)
from napari_restore.engine import (
    Plan as Plan,
)
from napari_restore.engine import (
    Progress as Progress,
)
from napari_restore.engine import (
    Region as Region,
)
from napari_restore.engine import (
    Remote as Remote,
)
from napari_restore.engine import (
    Result as Result,
)
from napari_restore.engine import (
    Run as Run,
)
from napari_restore.engine import (
    StoreBusy as StoreBusy,
)
from napari_restore.engine import (
    Threads as Threads,
)
from napari_restore.engine import (
    block_too_large as block_too_large,
)
from napari_restore.engine import (
    choose_device as choose_device,
)
from napari_restore.engine import (
    clear_frames as clear_frames,
)
from napari_restore.engine import (
    is_out_of_memory as is_out_of_memory,
)
from napari_restore.engine import (
    make_plan as make_plan,
)
from napari_restore.errors import (
    BadOutput as BadOutput,
)
from napari_restore.errors import (
    BadParameter as BadParameter,
)
from napari_restore.errors import (
    Cancelled as Cancelled,
)
from napari_restore.errors import (
    DiskFull as DiskFull,
)
from napari_restore.errors import (
    InputError as InputError,
)
from napari_restore.errors import (
    OutOfMemory as OutOfMemory,
)
from napari_restore.errors import (
    RestoreError as RestoreError,
)
from napari_restore.errors import (
    UnknownBands as UnknownBands,
)
from napari_restore.errors import (
    UnreadableImage as UnreadableImage,
)
from napari_restore.errors import (
    did_you_mean as did_you_mean,
)
from napari_restore.errors import (
    disk_full_as as disk_full_as,
)
from napari_restore.errors import (
    escape_controls as escape_controls,
)
from napari_restore.errors import (
    is_disk_full as is_disk_full,
)
from napari_restore.errors import (
    option as option,
)
from napari_restore.images import (
    ArrayReader as ArrayReader,
)
from napari_restore.images import (
    Box as Box,
)
from napari_restore.images import (
    ExportOptions as ExportOptions,
)
from napari_restore.images import (
    Image as Image,
)
from napari_restore.images import (
    Pixels as Pixels,
)
from napari_restore.images import (
    Radiometry as Radiometry,
)
from napari_restore.images import (
    bracket_of as bracket_of,
)
from napari_restore.images import (
    is_image_in_folder as is_image_in_folder,
)
from napari_restore.images import (
    light_of_srgb as light_of_srgb,
)
from napari_restore.images import (
    lock_file as lock_file,
)
from napari_restore.images import (
    needs_percentile as needs_percentile,
)
from napari_restore.images import (
    open_image as open_image,
)
from napari_restore.images import (
    owner_in as owner_in,
)
from napari_restore.images import (
    resolve_radiometry as resolve_radiometry,
)
from napari_restore.images import (
    srgb_of_light as srgb_of_light,
)
from napari_restore.images import (
    write_image as write_image,
)
from napari_restore.metrics import (
    SSIM_K1 as SSIM_K1,
)
from napari_restore.metrics import (
    SSIM_K2 as SSIM_K2,
)
from napari_restore.metrics import (
    SSIM_SIGMA as SSIM_SIGMA,
)
from napari_restore.metrics import (
    SSIM_WINDOW as SSIM_WINDOW,
)
from napari_restore.metrics import (
    Metric as Metric,
)
from napari_restore.metrics import (
    metric_of as metric_of,
)
from napari_restore.metrics import (
    psnr as psnr,
)
from napari_restore.metrics import (
    strips as strips,
)
from napari_restore.models import (
    MOST_SCALE as MOST_SCALE,
)
from napari_restore.models import (
    MOST_SHRINK as MOST_SHRINK,
)
from napari_restore.models import (
    BottleneckModel as BottleneckModel,
)
from napari_restore.models import (
    Named as Named,
)
from napari_restore.models import (
    RestorationModel as RestorationModel,
)
from napari_restore.models import (
    code_digest as code_digest,
)
from napari_restore.models import (
    cut as cut,
)
from napari_restore.models import (
    entry_of as entry_of,
)
from napari_restore.models import (
    fill as fill,
)
from napari_restore.models import (
    identity_of as identity_of,
)
from napari_restore.models import (
    is_scale as is_scale,
)
from napari_restore.models import (
    label_of as label_of,
)
from napari_restore.models import (
    load as load,
)
from napari_restore.models import (
    load_named as load_named,
)
from napari_restore.models import (
    pad_to_multiple as pad_to_multiple,
)
from napari_restore.models import (
    read_state as read_state,
)
from napari_restore.models import (
    resolve as resolve,
)
from napari_restore.models import (
    sha256_of_file as sha256_of_file,
)
from napari_restore.models.atmosphere.cards import THICKEST as THICKEST
from napari_restore.models.inf_dehaze.cards import (
    DEEPEST as DEEPEST,
)
from napari_restore.questions import (
    FLOATS as FLOATS,
)
from napari_restore.questions import (
    WHOLE as WHOLE,
)
from napari_restore.questions import (
    Computing as Computing,
)
from napari_restore.questions import (
    Machine as Machine,
)
from napari_restore.questions import (
    Pathlike as Pathlike,
)
from napari_restore.questions import (
    Reading as Reading,
)
from napari_restore.questions import (
    RestoreKeywords as RestoreKeywords,
)
from napari_restore.questions import (
    asked as asked,
)
from napari_restore.questions import (
    options_of as options_of,
)
from napari_restore.questions import (
    parsing as parsing,
)
from napari_restore.questions import (
    part_of as part_of,
)
from napari_restore.questions import (
    without as without,
)
from napari_restore.records import (
    strict_json as strict_json,
)
from napari_restore.records import (
    write_json as write_json,
)
