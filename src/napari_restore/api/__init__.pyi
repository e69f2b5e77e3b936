from napari_restore.engine import (
    ImageStarted as ImageStarted,
    Note as Note,
    Phase as Phase,
    Progress as Progress,
    TileDone as TileDone,
    forget_result as forget_result,
    keep_result as keep_result,
    kept_name as kept_name,
    of_command as of_command,
    seconds_left as seconds_left,
    seconds_measuring as seconds_measuring,
    tried_now as tried_now,
    unlist_result as unlist_result,
)
from napari_restore.explain import (
    argument_value as argument_value,
    arguments_in as arguments_in,
    attribution_summary as attribution_summary,
    check_table as check_table,
    draw_maps as draw_maps,
    holds_maps as holds_maps,
    kinds_in as kinds_in,
    method_list as method_list,
    opened_maps as opened_maps,
)
from napari_restore.images import (
    IMAGE_SUFFIXES as IMAGE_SUFFIXES,
    INDICES as INDICES,
    LIGHT as LIGHT,
    READ_SUFFIXES as READ_SUFFIXES,
    ROLES as ROLES,
    UNKNOWN as UNKNOWN,
    BandMath as BandMath,
    BandValues as BandValues,
    bands_of_scene as bands_of_scene,
    cache_entries as cache_entries,
    clear_cache as clear_cache,
    combinations as combinations,
    hint_of_bands as hint_of_bands,
    images_in_folder as images_in_folder,
    indices as indices,
    is_image_in_folder as is_image_in_folder,
    is_product as is_product,
    is_zarr as is_zarr,
    join_planes as join_planes,
    output_like as output_like,
    planes_asked as planes_asked,
    read_again as read_again,
    sensor_text as sensor_text,
    use_cache_folder as use_cache_folder,
    without_twins as without_twins,
)
from napari_restore.models import (
    factories_in as factories_in,
    inputs_in_words as inputs_in_words,
    is_ready as is_ready,
)
from napari_restore.questions import Region as Region

from ._answers import (
    AttentionElsewhere as AttentionElsewhere,
    Stop as Stop,
    attention_command as attention_command,
    attribute_elsewhere as attribute_elsewhere,
    explainers_of as explainers_of,
    message_types as message_types,
)
from ._attention import (
    attend as attend,
    attention_caption as attention_caption,
    attention_query as attention_query,
    attention_session as attention_session,
    check_attention as check_attention,
    check_head as check_head,
    draw_attention as draw_attention,
    queries_of as queries_of,
    repeat_attention as repeat_attention,
)
from ._attribution import (
    attribute as attribute,
    check_figure as check_figure,
    check_map as check_map,
    draw_attribution as draw_attribution,
    figure_caption as figure_caption,
    overview_path as overview_path,
    repeat_attribution as repeat_attribution,
)
from ._band_math import (
    THRESHOLD as THRESHOLD,
    BandMathChange as BandMathChange,
    band_math as band_math,
    band_math_change as band_math_change,
    change_text as change_text,
)
from ._cache import (
    kept_results as kept_results,
    plan_of_kept as plan_of_kept,
    result_of_kept as result_of_kept,
)
from ._cluster import connect as connect
from ._command_line import EXPORT_OPTIONS as EXPORT_OPTIONS
from ._fusion import (
    FUSION_MODEL as FUSION_MODEL,
    bracket_notes as bracket_notes,
    brackets as brackets,
    common_region as common_region,
    frame_weights as frame_weights,
    fuse as fuse,
    open_bracket as open_bracket,
)
from ._images import (
    SensorBands as SensorBands,
    check_export as check_export,
    check_output as check_output,
    check_stack as check_stack,
    info as info,
    is_in_usual_order as is_in_usual_order,
    mask_choices as mask_choices,
    mask_file as mask_file,
    mask_of_array as mask_of_array,
    mask_of_line as mask_of_line,
    mask_of_polygons as mask_of_polygons,
    mean_colour as mean_colour,
    merged_bands as merged_bands,
    notes_on_output as notes_on_output,
    open_image as open_image,
    output_box as output_box,
    picture_in as picture_in,
    save_context as save_context,
    sensor_bands as sensor_bands,
    unfit_options as unfit_options,
)
from ._models import (
    code_file as code_file,
    inspect_model as inspect_model,
    load_described as load_described,
    load_model as load_model,
    load_models as load_models,
    missing_roles as missing_roles,
    model_digest as model_digest,
    models as models,
    save_card as save_card,
    stamp_of as stamp_of,
    tile_invariance as tile_invariance,
)
from ._record_file import read_record_file as read_record_file
from ._restoring import (
    new_worker as new_worker,
    plan as plan,
    restore as restore,
    start as start,
    warm as warm,
)
from ._tables import attribute_table as attribute_table, boxes_of as boxes_of
from ._tasks import (
    command_of as command_of,
    folder_command as folder_command,
    known_command as known_command,
    plan_of as plan_of,
    portable_task as portable_task,
    repeat_of as repeat_of,
    rerun as rerun,
    serialised_task as serialised_task,
    task_of as task_of,
)
