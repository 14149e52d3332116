# cxrseg for hospitals: the folder contract of mercure and MONAI Deploy by default, the DICOM node by 'node ...'.
#
#   docker build -t cxrseg .
#   docker run --rm -v "$PWD/in:/in:ro" -v "$PWD/out:/out" cxrseg predict -i /in -o /out --output-type dicom_seg
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/cxrseg \
    && /opt/cxrseg/bin/pip install --no-cache-dir '.[hospital]' \
    && /opt/cxrseg/bin/pip uninstall --yes pip

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home cxrseg && install --directory --owner cxrseg --mode 700 /data
COPY --from=build /opt/cxrseg /opt/cxrseg
ENV PATH=/opt/cxrseg/bin:$PATH CXRSEG_CACHE=/tmp/cxrseg MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /data
ENTRYPOINT ["cxrseg"]
# mercure and MONAI Deploy name the folders by environment variables, and send whole studies, laterals included.
CMD ["predict", "--output-type", "dicom_seg", "dicom_sr", "--allow-refused"]
