from ._bracket import (
    CURVES as CURVES,
    FOR_SCORES as FOR_SCORES,
    KEPT as KEPT,
    LIFT as LIFT,
    WIDEST as WIDEST,
    CaptureSettings as CaptureSettings,
    Motion as Motion,
    draw_bracket as draw_bracket,
    draw_motion as draw_motion,
    radiance as radiance,
    shown as shown,
    take_bracket as take_bracket,
)
from ._camera import (
    DEMOSAICINGS as DEMOSAICINGS,
    Camera as Camera,
    developed as developed,
    draw_camera as draw_camera,
    exposed_mosaic as exposed_mosaic,
    photograph as photograph,
    read_out as read_out,
    sites as sites,
)
from ._low_light import (
    LowLight as LowLight,
    add_noise as add_noise,
    darken as darken,
    draw_low_light as draw_low_light,
)
from ._scene import (
    SCORED as SCORED,
    SCORED_ISO as SCORED_ISO,
    camera_scene as camera_scene,
    degraded_scene as degraded_scene,
)
